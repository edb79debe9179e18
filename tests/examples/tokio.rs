// SPDX-License-Identifier: GPL-2.0

//! A program on a runtime whose waker is an eventfd and whose children speak through pipes,
//! for `tests/programs/tokio.sh`.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (send, mut receive) = mpsc::channel(2);
    for task in 0..8u64 {
        let send = send.clone();
        tokio::spawn(async move {
            for value in 0..100 {
                sleep(Duration::from_micros(task)).await;
                send.send(task * value).await.unwrap();
            }
        });
    }
    drop(send);
    let mut sum = 0;
    while let Some(value) = receive.recv().await {
        sum += value;
    }
    println!("{sum}");

    // From a thread of the blocking pool the runtime is woken by its waker.
    let words = tokio::task::spawn_blocking(|| "from a thread".split(' ').count()).await?;
    println!("{words}");

    let mut cat = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut input, mut output) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let writer = tokio::spawn(async move { input.write_all(&[7; 300_000]).await });
    let mut content = Vec::new();
    output.read_to_end(&mut content).await?;
    writer.await??;
    println!("{} {:?}", content.len(), cat.wait().await?);
    Ok(())
}
