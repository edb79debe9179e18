// SPDX-License-Identifier: GPL-2.0

//! Misbehaves on purpose, in the way that its parameter says, so that the runner of virtual
//! machines can show that it notices. Never to be loaded anywhere else.

use kernel::prelude::*;
use kernel::sync::{lock::spinlock::SpinLock, new_mutex, new_spinlock, rcu, Arc, Mutex};
use kernel::{bindings, processor::cpu_relax, warn_on};

module! {
    type: Provoke,
    name: "provoke",
    authors: ["The ipcdemo authors"],
    description: "Misbehaves on purpose",
    license: "GPL",
    params: {
        how: u32 {
            default: 0,
            description: "What to do: the number of a line in init",
        },
    },
}

struct Provoke;

/// Not misbehaving: init and exit say how many processors are online, as the KUnit test always does.
const COUNT: u32 = 15;

impl kernel::Module for Provoke {
    fn init(module: &'static ThisModule) -> Result<Self> {
        match module_parameters::how.value() {
            0 => {}
            1 => drop(warn_on!(true)),
            // SAFETY: not at all, which is the point.
            2 => unsafe { bindings::BUG() },
            // SAFETY: not at all.
            3 => unsafe { core::ptr::null_mut::<u8>().write_volatile(1) },
            4 => panic!("provoked"),
            5 => lock_in_both_orders()?,
            6 => sleep_in_atomic_context()?,
            7 => leak()?,
            8 => use_after_free()?,
            9 => out_of_bounds()?,
            10 => spin()?,
            // SAFETY: sleeping is allowed here.
            11 => unsafe { bindings::msleep(10_000) },
            // SAFETY: the module is alive; that nobody gives the reference back is the point.
            12 => unsafe { bindings::__module_get(module.as_ptr()) },
            13 => return Err(EINVAL),
            14 => sleep_as_rcu_reader(),
            COUNT => say_processors("inserted"),
            _ => return Err(ENOSYS),
        }
        Ok(Provoke)
    }
}

impl Drop for Provoke {
    fn drop(&mut self) {
        if module_parameters::how.value() == COUNT {
            say_processors("removed");
        }
    }
}

fn say_processors(what: &str) {
    // SAFETY: the kernel's own counter, which lives as long as the kernel; C reads it as it changes
    // too.
    let online = unsafe { (&raw const bindings::__num_online_cpus.counter).read_volatile() };
    pr_info!("{what} with {online} online\n");
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::macros::kunit_tests(provoke)]
mod tests {
    #[test]
    fn processors() {
        super::say_processors("tested");
    }
}

fn locks() -> Result<(Arc<SpinLock<()>>, Arc<SpinLock<()>>)> {
    let one = Arc::pin_init(new_spinlock!((), "provoke::one"), GFP_KERNEL)?;
    let two = Arc::pin_init(new_spinlock!((), "provoke::two"), GFP_KERNEL)?;
    Ok((one, two))
}

fn lock_in_both_orders() -> Result {
    let (one, two) = locks()?;
    {
        let _one = one.lock();
        let _two = two.lock();
    }
    let _two = two.lock();
    let _one = one.lock();
    Ok(())
}

fn sleep_in_atomic_context() -> Result {
    let (one, _) = locks()?;
    let mutex: Arc<Mutex<()>> = Arc::pin_init(new_mutex!((), "provoke::mutex"), GFP_KERNEL)?;
    let _one = one.lock();
    let _mutex = mutex.lock();
    Ok(())
}

fn sleep_as_rcu_reader() {
    let _guard = rcu::read_lock();
    // SAFETY: not at all: an RCU reader must not sleep.
    unsafe { bindings::msleep(1) };
}

/// Many, because the allocator keeps the addresses that it gave out last, and kmemleak takes them
/// for references.
fn leak() -> Result {
    for _ in 0..1000 {
        core::mem::forget(KBox::new([0u8; 200], GFP_KERNEL)?);
    }
    Ok(())
}

fn use_after_free() -> Result {
    let raw = KBox::into_raw(KBox::new([0u8; 64], GFP_KERNEL)?);
    // SAFETY: it comes from `into_raw`.
    drop(unsafe { KBox::from_raw(raw) });
    // SAFETY: not at all.
    unsafe { raw.cast::<u8>().read_volatile() };
    Ok(())
}

fn out_of_bounds() -> Result {
    let block = KBox::new([0u8; 64], GFP_KERNEL)?;
    // SAFETY: not at all.
    unsafe { block.as_ptr().add(64).read_volatile() };
    Ok(())
}

/// Holds a processor, with preemption off.
fn spin() -> Result {
    let (one, _) = locks()?;
    let _one = one.lock();
    loop {
        cpu_relax();
    }
}
