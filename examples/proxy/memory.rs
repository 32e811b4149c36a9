//! What large requests took goes back to the system when they are done.
//!
//! From some size on glibc maps a block by itself, and unmaps it when it is freed. That size begins
//! at 128 KiB and grows with the first large block that is freed, up to 32 MiB; what is smaller
//! stays with the process. It stays where it is when it is set, which a program can do for itself
//! only by `unsafe` code, and for its successor by a variable.

/// The variable, and the number of bytes that it has by default (mallopt(3), `M_MMAP_THRESHOLD`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const THRESHOLD: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// Begins the program again in the same process, with the variable set; where it is set already, or
/// the C library is another, nothing happens. It is to be called before anything else.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::{env, os::unix::process::CommandExt, process::Command};

        let (name, bytes) = THRESHOLD;
        let mut arguments = env::args_os();
        let (None, Ok(program), Some(called)) =
            (env::var_os(name), env::current_exe(), arguments.next())
        else {
            return;
        };
        // It comes back only if that cannot be done, and then all is as it was.
        let _error = Command::new(program).arg0(called).args(arguments).env(name, bytes).exec();
    }
}
