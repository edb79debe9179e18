// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo routes`.

use std::fmt::Write as _;
use std::io::{self, Write};

use ipcdemo_client::{Factory, Routes};
use serde_json::json;

use crate::cli;
use crate::failure::Failure;

pub fn run(out: &mut impl Write, options: &cli::Routes) -> Result<(), Failure> {
    let factory = Factory::open()?;
    let routes = match options.switch() {
        None => factory
            .routes()
            .map_err(Failure::because("cannot list the routes"))?,
        Some(on) => factory
            .switch_routes(on)
            .map_err(|error| not_switched(&error))?,
    };
    if options.json {
        writeln!(out, "{}", json(&routes))?;
        return Ok(());
    }
    if !routes.loaded {
        eprintln!("the module was loaded without routes: load it with routes=1");
        return Ok(());
    }
    write!(out, "{}", table(&routes))?;
    if !routes.on {
        eprintln!("routes are switched off: members' calls go to the kernel");
    }
    Ok(())
}

fn not_switched(error: &io::Error) -> Failure {
    let why = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the module was loaded without routes: load it with routes=1",
        Some(libc::EPERM) => "it takes CAP_SYS_ADMIN: become root",
        _ => return Failure::new(format!("cannot switch the routes: {error}")),
    };
    Failure::new(format!("cannot switch the routes: {why}"))
}

/// For people.
fn table(routes: &Routes) -> String {
    let mut text = format!(
        "{:<32}  {:<8}  {:<8}  {:>12}  {:>12}\n",
        "FUNCTION", "KIND", "STATE", "ANSWERED", "PASSED"
    );
    for route in &routes.list {
        let kind = route.kind.map_or("all".into(), |kind| kind.to_string());
        let _ = writeln!(
            text,
            "{:<32}  {kind:<8}  {:<8}  {:>12}  {:>12}",
            route.function, route.state, route.answered, route.passed
        );
    }
    text
}

/// For programs.
fn json(routes: &Routes) -> serde_json::Value {
    let list: Vec<_> = routes
        .list
        .iter()
        .map(|route| {
            json!({
                "function": route.function,
                "kind": route.kind.map(|kind| kind.to_string()),
                "state": route.state.to_string(),
                "answered": route.answered,
                "passed": route.passed,
            })
        })
        .collect();
    json!({ "on": routes.on, "loaded": routes.loaded, "routes": list })
}

#[cfg(test)]
mod tests {
    use ipcdemo_client::{Kind, Route, RouteState};

    use super::*;

    fn sample() -> Routes {
        let births = Route {
            function: "shm_init_ns".into(),
            kind: None,
            state: RouteState::Resting,
            answered: 0,
            passed: 3,
        };
        let calls = Route {
            function: "__x64_sys_eventfd2".into(),
            kind: Some(Kind::Counter),
            state: RouteState::Armed,
            answered: 12,
            passed: 0,
        };
        Routes {
            list: vec![births, calls],
            on: true,
            loaded: true,
        }
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let table = table(&sample());
        let lines: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["shm_init_ns", "all", "resting", "0", "3"]);
        assert_eq!(
            lines[2],
            ["__x64_sys_eventfd2", "counter", "armed", "12", "0"]
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn programs_are_told_the_same() {
        let value = json(&sample());
        assert_eq!(value["on"], true);
        assert_eq!(value["routes"][0]["kind"], serde_json::Value::Null);
        assert_eq!(value["routes"][1]["answered"], 12);
    }
}
