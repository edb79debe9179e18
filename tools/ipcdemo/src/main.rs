// SPDX-License-Identifier: GPL-2.0

//! Drives the ipcdemo kernel module from a shell.

mod bench;
mod cli;
mod command;
mod counter;
mod exec;
mod failure;
mod fifo;
mod list;
mod namespaces;
mod null;
mod pipe;
mod proc;
mod routes;
mod target;
mod tour;
mod waitq;

use std::io;
use std::panic::resume_unwind;
use std::process::ExitCode;
use std::thread;

#[cfg(feature = "generate")]
use clap::CommandFactory;
use clap::Parser;

use cli::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    // Who closes the pipe has seen enough: then this ends as any other program,
    // instead of with a complaint, which is how Rust's runtime sets it up.
    // SAFETY: No other thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    match run(with_room(Cli::parse).command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let out = &mut io::stdout().lock();
    match command {
        Command::Tour { plain } => tour::run(plain),
        Command::Counter(command) => counter::run(out, command),
        Command::Waitq(command) => waitq::run(out, command),
        Command::Pipe(command) => pipe::run(out, command),
        Command::Mkfifo { name, mode } => fifo::make(out, &name, mode),
        Command::Rmfifo { name } => fifo::remove(&name),
        Command::Null { command } => null::run(&command),
        Command::Exec(options) => exec::run(&options),
        Command::Routes(options) => routes::run(out, &options),
        Command::Bench(options) => bench::run(out, options),
        Command::Ls(options) if options.namespaces => namespaces::run(out, &options),
        Command::Ls(options) => list::run(out, &options),
        #[cfg(feature = "generate")]
        Command::Completions { shell } => {
            cli::completions(with_room(Cli::command), shell);
            Ok(())
        }
        #[cfg(feature = "generate")]
        Command::Man { directory } => cli::man(with_room(Cli::command), &directory),
    }
}

/// Runs `work` on a stack of its own: to define the command line takes more than the 256 KiB that
/// setrlimit(2) may have left this thread. The new thread ends here, so that the commands, some of
/// which fork, have the process to themselves.
fn with_room<T: Send + 'static>(work: fn() -> T) -> T {
    const STACK: usize = 2 << 20;
    match thread::Builder::new().stack_size(STACK).spawn(work) {
        Ok(worker) => worker.join().unwrap_or_else(|panic| resume_unwind(panic)),
        // A caller that allows no second thread may still allow the room.
        Err(_) => work(),
    }
}
