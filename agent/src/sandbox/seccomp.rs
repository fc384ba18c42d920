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

/// Denied whatever the arguments.
const DENIED: &[i64] = &[
    // Nobody is served.
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // The same by another name, past this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // No other program is run, and no other process looked into.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    // Nothing of the kernel is changed or widened.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// On x86-64 every call has a second number for the x32 ABI, which the filter's
/// check of the architecture does not tell apart.
const X32_BIT: i64 = 0x4000_0000;
/// Calls whose x32 number is not the ordinary one with the bit set: execve, ptrace,
/// process_vm_readv, process_vm_writev, execveat, kexec_load.
const X32_OWN: &[i64] = &[520, 521, 528, 539, 540, 545];

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

fn program() -> Result<BpfProgram, BackendError> {
    let target: TargetArch = ARCH.try_into()?;
    let mut rules = BTreeMap::new();
    for call in DENIED {
        rules.insert(*call, Vec::new());
    }
    rules.insert(libc::SYS_socket, sockets()?);
    if target == TargetArch::x86_64 {
        let second: Vec<_> = rules
            .iter()
            .map(|(call, rule)| (call | X32_BIT, rule.clone()))
            .collect();
        rules.extend(second);
        rules.extend(X32_OWN.iter().map(|call| (call | X32_BIT, Vec::new())));
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
