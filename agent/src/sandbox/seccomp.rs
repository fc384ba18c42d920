//! seccomp: system calls that an agent never needs and an intruder would like.
//!
//! Allowed by default, denied with `EPERM`: the agent stands on a runtime, a TLS
//! library and the C library's name resolution, whose calls differ by version, so a
//! list of what is allowed would break on somebody's host.

use std::{collections::BTreeMap, env::consts::ARCH};

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

macro_rules! calls {
    ($( $name:ident, )+) => {
        &[$( (stringify!($name), libc::$name), )+]
    };
}

/// Denied whatever the arguments.
const DENIED: &[(&str, i64)] = calls![
    // Nobody is served.
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    // The same by another name, past this filter.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    // No other program is run, and no other process looked into.
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    // Nothing of the kernel is changed or widened.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_by_handle_at,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_setns,
    SYS_unshare,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
];

/// On x86-64 every call has a second number for the x32 ABI, which the filter's
/// check of the architecture does not tell apart.
const X32_BIT: i64 = 0x4000_0000;
/// Calls whose x32 number is not the ordinary one with the bit set: execve, ptrace,
/// process_vm_readv, process_vm_writev, execveat, kexec_load.
const X32_OWN: [i64; 6] = [520, 521, 528, 539, 540, 545];

/// Argument positions of `socket(domain, type, protocol)`.
const DOMAIN: u8 = 0;
const TYPE: u8 = 1;
const PROTOCOL: u8 = 2;
/// Below the flags `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
const TYPE_MASK: u64 = 0xF;
/// The obsolete kind of packet sockets, from `linux/net.h`.
const SOCK_PACKET: libc::c_int = 10;
/// Everything but streams and datagrams. A list, because a filter can compare under
/// a mask for equality only.
const KINDS_DENIED: &[libc::c_int] = &[
    libc::SOCK_RAW,
    libc::SOCK_RDM,
    libc::SOCK_SEQPACKET,
    libc::SOCK_DCCP,
    SOCK_PACKET,
];

/// Restricts the calling thread and all threads that it starts.
///
/// # Errors
///
/// Why the kernel, or this build's architecture, does not do it, for a person.
pub fn apply() -> Result<(), String> {
    let program = program().map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| match error {
        Error::Prctl(source) | Error::Seccomp(source) => source.to_string(),
        other => other.to_string(),
    })
}

/// Every call that is denied whatever its arguments, by name and by each of its numbers.
pub(super) fn denied() -> Vec<(&'static str, i64)> {
    let mut calls = DENIED.to_vec();
    if cfg!(target_arch = "x86_64") {
        calls.extend(DENIED.iter().map(|(name, call)| (*name, call | X32_BIT)));
        calls.extend(X32_OWN.map(|call| ("a call of the x32 ABI", call | X32_BIT)));
    }
    calls
}

fn program() -> Result<BpfProgram, BackendError> {
    let target: TargetArch = ARCH.try_into()?;
    let calls = denied().into_iter();
    let mut rules: BTreeMap<_, _> = calls.map(|(_, call)| (call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, sockets()?);
    if target == TargetArch::x86_64 {
        rules.insert(libc::SYS_socket | X32_BIT, sockets()?);
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, denied, target)?.try_into()
}

/// Sockets that are denied: any one rule suffices.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let [unix, ipv4, ipv6, netlink] = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ]
    .map(number);
    let mut rules = vec![
        // Packet, vsock, Bluetooth and the like. Of netlink, routes stay: the C library asks
        // which addresses the host has before it resolves a name.
        SeccompRule::new(vec![
            isnt(DOMAIN, unix)?,
            isnt(DOMAIN, ipv4)?,
            isnt(DOMAIN, ipv6)?,
            isnt(DOMAIN, netlink)?,
        ])?,
    ];
    rules.push(SeccompRule::new(vec![
        is(DOMAIN, netlink)?,
        isnt(PROTOCOL, number(libc::NETLINK_ROUTE))?,
    ])?);
    for family in [ipv4, ipv6] {
        for kind in KINDS_DENIED {
            let kind = SeccompCondition::new(
                TYPE,
                Dword,
                SeccompCmpOp::MaskedEq(TYPE_MASK),
                number(*kind),
            )?;
            rules.push(SeccompRule::new(vec![is(DOMAIN, family)?, kind])?);
        }
        // MPTCP, SCTP, DCCP, ICMP: they have a bind and a listen of their own.
        rules.push(SeccompRule::new(vec![
            is(DOMAIN, family)?,
            isnt(PROTOCOL, 0)?,
            isnt(PROTOCOL, number(libc::IPPROTO_TCP))?,
            isnt(PROTOCOL, number(libc::IPPROTO_UDP))?,
        ])?);
    }
    Ok(rules)
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, value)
}

fn isnt(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, value)
}

fn number(constant: libc::c_int) -> u64 {
    u64::from(constant.unsigned_abs())
}
