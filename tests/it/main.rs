//! The real binaries on loopback, without Docker: enrolment, streams, lost
//! connections, intruders, copies, revocation, and what an operator sees of it.

mod bulk;
mod disk;
mod drain;
mod enrolment;
mod identity;
mod intruders;
mod observed;
mod operator;
mod outbound;
mod probe;
mod reconnect;
mod resume;
mod streams;
mod tls;
