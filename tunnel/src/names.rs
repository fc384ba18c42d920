//! Where names are looked up: the hosts file and DNS, and nothing that is loaded.
//!
//! The C library's name service takes its sources from `/etc/nsswitch.conf`, and most
//! of them (`resolve`, `mymachines`, `mdns4_minimal`, `sss`) are libraries that it
//! loads when a name is first asked for. Our programs are linked statically: such a
//! library brings the host's own C library into a process that has another already,
//! and of another version. So the sources are named here, once, and both are part of
//! the program; a host's resolver daemon is still asked, as DNS, where `resolv.conf`
//! says so.

use std::ffi::{CStr, c_char, c_int};

/// Databases, and where each is looked up. Users and groups too: the standard library
/// asks for a home directory where the environment names none.
const SOURCES: &[(&CStr, &CStr)] = &[
    (c"hosts", c"files dns"),
    (c"passwd", c"files"),
    (c"group", c"files"),
];

/// Names the sources for this process; to be called before anything is looked up.
///
/// A C library that does not take it keeps to `nsswitch.conf`, and a name is still
/// found; so nothing is reported.
pub fn look_up_without_libraries() {
    for (database, sources) in SOURCES {
        configure(database, sources);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn configure(database: &CStr, sources: &CStr) {
    #[expect(unsafe_code, reason = "the C library's own function, in no crate")]
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
    }
    // SAFETY: declared so in glibc's `nss.h` since 2.1; takes a lock of its own, reads
    // both texts, which end with a zero byte, and keeps copies.
    #[expect(unsafe_code, reason = "the C library's own function, in no crate")]
    let _refused = unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const fn configure(_database: &CStr, _sources: &CStr) {}
