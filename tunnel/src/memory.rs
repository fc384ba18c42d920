//! How the C library gives memory back: not in the middle of a download.
//!
//! glibc returns the top of a heap to the kernel as soon as 128 KiB of it are free. Under
//! bulk the chunks of one stream come and go all the time, so that each was cleared,
//! mapped and unmapped again: a fifth of a relay's processor time. As much as one stream's
//! window is kept now, in each heap that had it.

/// Sets it for this process; to be called before there is a second thread.
///
/// Another C library goes about it in its own way.
pub fn keep_what_bulk_needs() {
    set();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set() {
    /// Free memory at its top that a heap keeps.
    const KEPT_BYTES: libc::c_int = wire::limits::STREAM_WINDOW_MAX_BYTES as libc::c_int;
    /// From here on a piece is mapped by itself: far above a chunk, and below the three
    /// megabytes that quinn has for what a socket receives, of which an agent touches a
    /// few pages. In a heap each dial would clear all of it.
    const MAPPED_BYTES: libc::c_int = 1024 * 1024;
    for (parameter, bytes) in [
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES),
    ] {
        // SAFETY: takes two numbers, and changes how later allocations are served; no
        // other thread allocates meanwhile.
        #[expect(unsafe_code, reason = "the C library's own function, safe in no crate")]
        let _is_set = unsafe { libc::mallopt(parameter, bytes) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const fn set() {}
