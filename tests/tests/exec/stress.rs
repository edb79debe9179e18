// SPDX-License-Identifier: GPL-2.0

//! Many at once, signals at the wrong moment, and what is left when somebody is killed.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::ptr;

use ipcdemo_client::Factory;
use ipcdemo_tests::{Child, scaled, serially_for};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::pipe::pipe;
use rustix::process::{Pid, Signal, getppid, kill_process};

use crate::{LIMIT, command, is_body, nothing_is_left};

/// Makes a pipe, and says why if it can't.
fn make_pipe() -> Result<[i32; 2], io::Error> {
    let mut ends = [-1; 2];
    // SAFETY: It writes two numbers.
    match unsafe { libc::syscall(libc::SYS_pipe2, ends.as_mut_ptr(), 0) } {
        0 => Ok(ends),
        _ => Err(io::Error::last_os_error()),
    }
}

fn make_counter() -> Result<i32, io::Error> {
    // SAFETY: It takes numbers.
    match unsafe { libc::syscall(libc::SYS_eventfd2, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd as i32),
    }
}

fn close(fds: &[i32]) {
    for &fd in fds {
        // SAFETY: They are this thread's, and used no more.
        assert_eq!(unsafe { libc::close(fd) }, 0);
    }
}

/// How many objects of a kind were made, by the report.
fn reported(text: &str, kind: &str) -> usize {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 2 && words[1] == kind)
        .map(|words| words[0].parse::<usize>().unwrap())
        .sum()
}

/// Runs a body under `ipcdemo exec`: what it has seen, and the report.
fn report(name: &'static str) -> (String, String) {
    let path = crate::seen_path(name);
    let output = command(&["ipcdemo", "exec", "--report", "--"], name)
        .env(crate::SEEN, &path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let seen = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    (seen, text)
}

fn make_many() -> String {
    for _ in 0..scaled(10_000) {
        close(&make_pipe().unwrap());
        close(&[make_counter().unwrap()]);
    }
    String::new()
}

#[test]
fn many_are_made() {
    const NAME: &str = "stress::many_are_made";
    if is_body(NAME, make_many) {
        return;
    }
    serially_for(LIMIT, || {
        let (_, text) = report(NAME);
        let expected = scaled(10_000);
        assert_eq!(
            [reported(&text, "pipe"), reported(&text, "counter")],
            [expected; 2]
        );
        nothing_is_left();
    });
}

const PROCESSES: u16 = 500;

/// So many processes with a pipe and a counter each, all there at the same time. Their bytes come through.
/// Gives how many objects there were.
fn many_processes() -> String {
    let (ready, go) = (pipe().unwrap(), pipe().unwrap());
    let children: Vec<_> = (1..=PROCESSES)
        .map(|number| {
            let (told, begin) = (ready.1.as_fd(), go.0.as_fd());
            Child::fork(move || {
                let (reader, writer) = pipe().unwrap();
                let counter = eventfd(number.into(), EventfdFlags::empty()).unwrap();
                assert_eq!(write(told, b"x"), Ok(1));
                assert_eq!(read(begin, &mut [0]), Ok(1));
                let (mut got, mut count) = ([0; 2], [0; 8]);
                assert_eq!(write(&writer, &number.to_ne_bytes()), Ok(2));
                assert_eq!(read(&reader, &mut got), Ok(2));
                assert_eq!(u16::from_ne_bytes(got), number);
                assert_eq!(read(&counter, &mut count), Ok(8));
                assert_eq!(u64::from_ne_bytes(count), number.into());
                0
            })
        })
        .collect();
    let many = usize::from(PROCESSES);
    for _ in 0..many {
        assert_eq!(read(&ready.0, &mut [0]), Ok(1));
    }
    let objects = Factory::open().unwrap().list().unwrap().len();
    assert_eq!(write(&go.1, &vec![0; many]), Ok(many));
    assert!(children.into_iter().all(|child| child.wait() == 0));
    objects.to_string()
}

#[test]
fn many_at_once() {
    const NAME: &str = "stress::many_at_once";
    if is_body(NAME, many_processes) {
        return;
    }
    serially_for(LIMIT, || {
        let (seen, text) = report(NAME);
        let counters = usize::from(PROCESSES);
        // Two are the program's own.
        let pipes = counters + 2;
        assert_eq!(seen, (counters + pipes).to_string());
        let made = [reported(&text, "pipe"), reported(&text, "counter")];
        assert_eq!(made, [pipes, counters]);
        nothing_is_left();
    });
}

/// Makes pipes while signals come: SIGALRM all the time, SIGCHLD of children. Gives how many
/// were made, and how many calls were interrupted.
fn in_a_storm(flags: i32, calls: usize) -> String {
    extern "C" fn handle(signal: i32) {
        if signal == libc::SIGCHLD {
            // SAFETY: It takes numbers.
            while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
        }
    }
    // SAFETY: The handler makes system calls only; the structs are read.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as extern "C" fn(i32) as usize;
        action.sa_flags = flags;
        for signal in [libc::SIGALRM, libc::SIGCHLD] {
            assert_eq!(
                libc::sigaction(signal, &raw const action, ptr::null_mut()),
                0
            );
        }
        let every = libc::timeval {
            tv_sec: 0,
            tv_usec: 1_000,
        };
        let timer = libc::itimerval {
            it_interval: every,
            it_value: every,
        };
        assert_eq!(
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()),
            0
        );
    }
    let first = make_pipe_patiently();
    let (mut made, mut interrupted) = (1, 0);
    for call in 1..calls {
        if call % 20 == 0 {
            // SAFETY: The child makes one system call.
            unsafe {
                if libc::fork() == 0 {
                    libc::_exit(0);
                }
            }
        }
        match make_pipe() {
            // The numbers are the same each time, unless some were lost.
            Ok(ends) => {
                assert_eq!(ends, first.map(|fd| fd + 2));
                close(&ends);
                made += 1;
            }
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => interrupted += 1,
            Err(error) => panic!("{error}"),
        }
    }
    format!("{made} {interrupted}")
}

fn make_pipe_patiently() -> [i32; 2] {
    loop {
        if let Ok(ends) = make_pipe() {
            return ends;
        }
    }
}

#[test]
fn signals_that_restart_calls() {
    const NAME: &str = "stress::signals_that_restart_calls";
    if is_body(NAME, || in_a_storm(libc::SA_RESTART, scaled(10_000))) {
        return;
    }
    serially_for(LIMIT, || {
        let (seen, text) = report(NAME);
        assert_eq!(seen, format!("{} 0", scaled(10_000)));
        assert_eq!(reported(&text, "pipe"), scaled(10_000));
        nothing_is_left();
    });
}

/// Without SA_RESTART as well: neither call is one that a signal interrupts.
#[test]
fn signals_that_interrupt_calls() {
    const NAME: &str = "stress::signals_that_interrupt_calls";
    if is_body(NAME, || in_a_storm(0, scaled(10_000))) {
        return;
    }
    serially_for(LIMIT, || {
        let (seen, text) = report(NAME);
        assert_eq!(seen, format!("{} 0", scaled(10_000)));
        assert_eq!(reported(&text, "pipe"), scaled(10_000));
        nothing_is_left();
    });
}

/// Two processes that make objects until one of them is gone. The number of the other is told first,
/// then a byte now and then.
fn until_somebody_is_killed() -> String {
    let work = |go_on: &dyn Fn() -> bool| {
        let made = || make_pipe().and_then(|ends| Ok((ends, make_counter()?)));
        while let (true, Ok((ends, counter))) = (go_on(), made()) {
            close(&ends);
            close(&[counter]);
        }
    };
    let parent = rustix::process::getpid();
    let child = Child::fork(|| {
        work(&|| getppid() == Some(parent));
        0
    });
    println!("\nworker {}", child.pid());
    let pid = child.pid().as_raw_nonzero().get();
    work(&|| {
        // SAFETY: It asks only.
        let lives = unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) } == 0;
        let mut out = io::stdout();
        lives && out.write_all(b".").and_then(|()| out.flush()).is_ok()
    });
    std::process::exit(0)
}

#[test]
fn whoever_is_killed() {
    const NAME: &str = "stress::whoever_is_killed";
    if is_body(NAME, until_somebody_is_killed) {
        return;
    }
    serially_for(LIMIT, || {
        for round in 0..scaled(200) {
            let options: &[&str] = if round % 2 == 0 {
                &["--"]
            } else {
                &["--report", "--"]
            };
            let mut program = command(&[&["ipcdemo", "exec"], options].concat(), NAME)
                .env(crate::SEEN, env::temp_dir().join("exec-unused"))
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut told = BufReader::new(program.stdout.take().unwrap());
            let mut line = String::new();
            while !line.starts_with("worker ") {
                line.clear();
                assert_ne!(told.read_line(&mut line).unwrap(), 0);
            }
            let worker = Pid::from_raw(line["worker ".len()..].trim().parse().unwrap()).unwrap();
            // As many as another number each time.
            let mut bytes = vec![0; round * 7 % 11];
            told.read_exact(&mut bytes).unwrap();
            let victim = match round / 2 % 2 {
                0 => Pid::from_child(&program),
                _ => worker,
            };
            kill_process(victim, Signal::KILL).unwrap();
            program.wait().unwrap();
            // Of `ipcdemo exec --report` alone its program does not die: it ends as nobody
            // listens any more. All others end for want of each other.
            drop(told);
            nothing_is_left();
        }
    });
}
