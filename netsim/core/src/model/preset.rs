//! Idle timeouts of known devices, each with who observed them.

use std::time::Duration;

use super::edge::{Expired, Timeouts};
use crate::term::words;

words! {
    /// A known device.
    pub enum Preset as "preset" {
        /// AWS Network Load Balancer.
        "aws-nlb" AwsNlb,
        /// AWS security groups on Nitro v6 instances.
        "aws-nitro-v6" AwsNitroV6,
        /// AWS NAT gateway.
        "aws-nat-gateway" AwsNatGateway,
        /// Azure Load Balancer and its outbound rules, as they come.
        "azure-load-balancer" AzureLoadBalancer,
        /// The same with TCP reset switched on.
        "azure-load-balancer-reset" AzureLoadBalancerReset,
        /// Google Cloud NAT.
        "gcp-cloud-nat" GcpCloudNat,
        /// Cisco ASA and Firepower.
        "cisco-asa" CiscoAsa,
        /// Fortinet.
        "fortinet" Fortinet,
        /// The least that a home router does.
        "home-nat" HomeNat,
        /// A provider's NAT that keeps to the standards, and no longer.
        "cgnat" Cgnat,
        /// Linux, as it comes.
        "linux-conntrack" LinuxConntrack,
    }
}

impl Preset {
    /// Who observed it.
    pub const fn observed(self) -> &'static str {
        match self {
            Self::AwsNlb => {
                "AWS networking blog, September 2024: idle timeout 350 s for TCP unless \
                 configured (60 to 6,000 s), 120 s for UDP, forgotten silently"
            }
            Self::AwsNitroV6 => {
                "AWS API, ConnectionTrackingConfiguration: 350 s for established TCP on \
                 Nitro v6, 30 s for UDP, silent"
            }
            Self::AwsNatGateway => {
                "AWS NAT gateway: 350 s for every protocol, a reset to the next packet \
                 (CDK's maxDrainDuration; lua-resty-core #65)"
            }
            Self::AzureLoadBalancer => {
                "MicrosoftDocs, load-balancer-tcp-idle-timeout: 4 minutes (4 to 100), \
                 dropped silently"
            }
            Self::AzureLoadBalancerReset => {
                "MicrosoftDocs, load-balancer-tcp-reset: 4 minutes, a reset to both ends"
            }
            Self::GcpCloudNat => {
                "Compute API, RouterNat: 1,200 s for established TCP, 30 s for UDP"
            }
            Self::CiscoAsa => {
                "Cisco Defense Orchestrator, timeouts of ASA and FTD: 1 h for TCP, 2 min \
                 for UDP, 2 s for ICMP"
            }
            Self::Fortinet => "Fortinet documentation, session timeouts: 3,600 s for TCP",
            Self::HomeNat => {
                "Hätönen et al., IMC 2010: of 34 home gateways the least keeps UDP for \
                 30 s after a single packet"
            }
            Self::Cgnat => {
                "RFC 5382 and RFC 4787, which RFC 6888 asks of carriers: TCP 2 h 4 min, \
                 UDP 2 min at least"
            }
            Self::LinuxConntrack => {
                "Linux 6.18, nf_conntrack sysctls: 432,000 s for established TCP, 30 s \
                 for UDP"
            }
        }
    }

    /// Its timeouts.
    pub const fn timeouts(self) -> Timeouts {
        let (tcp_s, udp_s) = match self {
            Self::AwsNlb => (350, 120),
            Self::AwsNitroV6 => (350, 30),
            Self::AwsNatGateway => (350, 350),
            Self::AzureLoadBalancer | Self::AzureLoadBalancerReset => (240, 240),
            Self::GcpCloudNat => (1200, 30),
            Self::CiscoAsa => (3600, 120),
            Self::Fortinet => (3600, 180),
            Self::HomeNat => (7440, 30),
            Self::Cgnat => (7440, 120),
            Self::LinuxConntrack => (432_000, 30),
        };
        let icmp_s = match self {
            Self::CiscoAsa => 2,
            // RFC 5508 asks for 60 s; conntrack's default is 30 s.
            Self::LinuxConntrack => 30,
            Self::AwsNlb
            | Self::AwsNitroV6
            | Self::AwsNatGateway
            | Self::AzureLoadBalancer
            | Self::AzureLoadBalancerReset
            | Self::GcpCloudNat
            | Self::Fortinet
            | Self::HomeNat
            | Self::Cgnat => 60,
        };
        let expired = match self {
            Self::AwsNatGateway | Self::AzureLoadBalancerReset => Expired::Reset,
            Self::AwsNlb
            | Self::AwsNitroV6
            | Self::AzureLoadBalancer
            | Self::GcpCloudNat
            | Self::CiscoAsa
            | Self::Fortinet
            | Self::HomeNat
            | Self::Cgnat
            | Self::LinuxConntrack => Expired::Silent,
        };
        Timeouts {
            tcp: Some(Duration::from_secs(tcp_s)),
            udp: Some(Duration::from_secs(udp_s)),
            icmp: Some(Duration::from_secs(icmp_s)),
            expired,
        }
    }
}
