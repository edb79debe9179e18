// SPDX-License-Identifier: GPL-2.0

use std::fmt;
use std::io;

use bitflags::bitflags;

use crate::waitq::text;
use crate::{Factory, Kind, raw};

bitflags! {
    /// The kinds of objects that the kernel's own system calls can make for a member.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct Kinds: u32 {
        /// eventfd(2) makes a counter.
        const COUNTER = 1 << raw::IPCDEMO_KIND_COUNTER;
        /// pipe(2) makes a pipe, and fcntl(2) changes its size.
        const PIPE = 1 << raw::IPCDEMO_KIND_PIPE;
    }
}

/// The kinds' names, joined by commas; `none` if there is none.
impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = (0..u32::BITS)
            .filter(|kind| (self.bits() >> kind) & 1 != 0)
            .map(|kind| Kind::from(kind).to_string())
            .collect();
        f.pad(&if names.is_empty() {
            "none".into()
        } else {
            names.join(",")
        })
    }
}

/// A function of the kernel that the module answers for members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Its symbol.
    pub function: String,
    /// The kind of object that it makes or acts on; none if all kinds need it.
    pub kind: Option<Kind>,
    /// Whether calls of it are redirected.
    pub state: RouteState,
    /// How many calls the module answered.
    pub answered: u64,
    /// How many calls it let pass to the original.
    pub passed: u64,
}

/// Whether calls of a function are redirected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteState {
    /// The kernel has no such function that can be redirected.
    Absent,
    /// No namespace needs it.
    Resting,
    /// Members' calls are answered.
    Armed,
    /// One that this library, older than the module, does not know.
    Unknown(u32),
}

impl fmt::Display for RouteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.pad("absent"),
            Self::Resting => f.pad("resting"),
            Self::Armed => f.pad("armed"),
            Self::Unknown(state) => f.pad(&format!("unknown-{state}")),
        }
    }
}

impl From<&raw::ipcdemo_route> for Route {
    fn from(route: &raw::ipcdemo_route) -> Self {
        Self {
            function: text(&route.function),
            kind: (route.kind != 0).then(|| route.kind.into()),
            state: match route.state {
                raw::IPCDEMO_ROUTE_ABSENT => RouteState::Absent,
                raw::IPCDEMO_ROUTE_RESTING => RouteState::Resting,
                raw::IPCDEMO_ROUTE_ARMED => RouteState::Armed,
                unknown => RouteState::Unknown(unknown),
            },
            answered: route.answered,
            passed: route.passed,
        }
    }
}

/// All routes, and the operator's switch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Routes {
    /// Each function, in the module's order.
    pub list: Vec<Route>,
    /// Whether routes may be armed.
    pub on: bool,
    /// Whether the module was loaded with routes. Without, there are none, and they cannot be switched on.
    pub loaded: bool,
}

/// An IPC namespace whose tasks' calls the module answers. It pins the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// Unique since the machine started.
    pub id: u64,
    /// The inode number that `/proc/PID/ns/ipc` shows.
    pub inum: u32,
    /// The kinds of calls that are answered.
    pub kinds: Kinds,
    /// Whether its proving calls were seen.
    pub sealed: bool,
    /// Whether a member made it; otherwise it was enrolled itself.
    pub born: bool,
}

impl From<&raw::ipcdemo_namespace> for Namespace {
    fn from(namespace: &raw::ipcdemo_namespace) -> Self {
        Self {
            id: namespace.id,
            inum: namespace.inum,
            kinds: Kinds::from_bits_retain(namespace.kinds),
            sealed: namespace.flags & raw::IPCDEMO_NAMESPACE_SEALED != 0,
            born: namespace.flags & raw::IPCDEMO_NAMESPACE_BORN != 0,
        }
    }
}

impl Factory {
    /// Lists the routes.
    pub fn routes(&self) -> io::Result<Routes> {
        self.call_routes(raw::IPCDEMO_ROUTES_AS_IS)
    }

    /// Lets routes be armed, or disarms those of all kinds: members' calls then go to the kernel until routes
    /// are switched on again. Needs CAP_SYS_ADMIN.
    pub fn switch_routes(&self, on: bool) -> io::Result<Routes> {
        self.call_routes(if on {
            raw::IPCDEMO_ROUTES_ON
        } else {
            raw::IPCDEMO_ROUTES_OFF
        })
    }

    fn call_routes(&self, switched: u32) -> io::Result<Routes> {
        let mut routes = [raw::ipcdemo_route::default(); raw::IPCDEMO_ROUTES_MAX as usize];
        let mut args = raw::ipcdemo_routes_args {
            routes: routes.as_mut_ptr().addr() as u64,
            capacity: raw::IPCDEMO_ROUTES_MAX,
            route_size: size_of::<raw::ipcdemo_route>() as u32,
            count: 0,
            total: 0,
            switched,
            reserved: 0,
        };
        self.call(raw::IPCDEMO_IOC_ROUTES, &mut args)?;
        Ok(Routes {
            list: routes[..args.count as usize]
                .iter()
                .map(Route::from)
                .collect(),
            on: args.switched == raw::IPCDEMO_ROUTES_ON,
            loaded: args.switched != raw::IPCDEMO_ROUTES_WITHOUT,
        })
    }

    /// Lists the enrolled namespaces, in order of their ids.
    ///
    /// Each page of the answer is consistent in itself, as with [`Factory::list`].
    pub fn namespaces(&self) -> io::Result<Vec<Namespace>> {
        let mut namespaces = Vec::new();
        let mut page = [raw::ipcdemo_namespace::default(); raw::IPCDEMO_LIST_MAX as usize];
        let mut after = 0;
        loop {
            let mut args = raw::ipcdemo_namespaces_args {
                after,
                namespaces: page.as_mut_ptr().addr() as u64,
                capacity: raw::IPCDEMO_LIST_MAX,
                namespace_size: size_of::<raw::ipcdemo_namespace>() as u32,
                count: 0,
                reserved: 0,
            };
            self.call(raw::IPCDEMO_IOC_NAMESPACES, &mut args)?;
            let filled = &page[..args.count as usize];
            let Some(last) = filled.last() else {
                return Ok(namespaces);
            };
            after = last.id;
            namespaces.extend(filled.iter().map(Namespace::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names() {
        assert_eq!(Kinds::COUNTER.to_string(), "counter");
        assert_eq!(Kinds::empty().to_string(), "none");
        let newer = Kinds::from_bits_retain(Kinds::COUNTER.bits() | (1 << 31));
        assert_eq!(newer.to_string(), "counter,unknown-31");
        assert_eq!(Kinds::all().bits(), raw::IPCDEMO_ROUTED_KINDS);
    }

    #[test]
    fn what_all_kinds_need_has_no_kind() {
        let mut route = raw::ipcdemo_route {
            state: raw::IPCDEMO_ROUTE_ARMED,
            ..Default::default()
        };
        for (to, from) in route.function.iter_mut().zip(b"shm_init_ns") {
            *to = *from as _;
        }
        let route = Route::from(&route);
        assert_eq!((route.function.as_str(), route.kind), ("shm_init_ns", None));
        assert_eq!(route.state, RouteState::Armed);
    }
}
