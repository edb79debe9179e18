# counter: a runtime whose waker is an eventfd
tokio
