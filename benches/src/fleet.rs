//! Many agents in one process: real keys, real enrolments and real sessions through
//! [`tunnel::dial`], and nothing behind them.
//!
//! Who has been enrolled is kept beside the relay's data directory, so that the next
//! run dials at once.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};
use tunnel::{Credential, DialOptions, KeyPair, TransportChoice, Trust, World};
use wire::{
    id::{AgentId, InstanceId},
    key::{PublicKey, Secret},
    message::{AgentReport, Docker, control, docker},
    token::{EnrolToken, RelayAddress},
};

use crate::{
    failure::{Context, Failure},
    site::Site,
};

/// Handshakes under way at a time; below what the relay takes at a time.
const DIALS_MAX: usize = 128;

/// How often a dial that has failed is tried again.
const DIALS_AGAIN: usize = 3;

/// Environments that are added at a time.
const ADDS_MAX: usize = 32;

/// One agent of the fleet: who it is, and which run of it the relay has seen.
#[derive(Debug, Clone)]
struct Member {
    agent_id: AgentId,
    seed: Secret,
    instance: InstanceId,
}

/// See the module. Sessions end when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    world: World,
    file: PathBuf,
    transport: TransportChoice,
    relay: Option<(PublicKey, RelayAddress)>,
    members: Vec<Member>,
    live: JoinSet<()>,
    dialled: usize,
}

impl Fleet {
    /// A fleet without sessions; members that were enrolled at this site are known.
    ///
    /// # Errors
    ///
    /// What was kept cannot be read.
    pub fn at(site: &Site, transport: TransportChoice) -> Result<Self, Failure> {
        Self::kept(site.folder(), transport)
    }

    /// The same, where the site is another process's.
    ///
    /// # Errors
    ///
    /// As [`Self::at`].
    pub fn kept(folder: &Path, transport: TransportChoice) -> Result<Self, Failure> {
        let file = folder.join("fleet.json");
        let (relay, members) = match fs::read(&file) {
            Ok(bytes) => {
                let kept = serde_json::from_slice(&bytes).context(file.display())?;
                read(&kept).context(file.display())?
            }
            Err(_) => (None, Vec::new()),
        };
        Ok(Self {
            world: World::real(),
            file,
            transport,
            relay,
            members,
            live: JoinSet::new(),
            dialled: 0,
        })
    }

    /// Enrols until there are `count` members. Their sessions end at once.
    ///
    /// # Errors
    ///
    /// The relay refuses one.
    pub async fn enrol(&mut self, site: &Arc<Site>, count: usize) -> Result<(), Failure> {
        let permits = Arc::new(Semaphore::new(ADDS_MAX));
        let mut enrolling = JoinSet::new();
        for index in self.members.len()..count {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .context("closed")?;
            let (site, world, transport) = (Arc::clone(site), self.world.clone(), self.transport);
            enrolling.spawn(async move {
                let token = site.add(&format!("fleet-{index:06}")).await?;
                let enrolled = enrol_one(&world, &token, transport).await;
                drop(permit);
                enrolled
            });
        }
        while let Some(enrolled) = enrolling.join_next().await {
            let (relay, member) = enrolled.context("an enrolment")??;
            self.relay = Some(relay);
            self.members.push(member);
        }
        let kept = serde_json::to_vec(&self.to_json()).context(self.file.display())?;
        fs::write(&self.file, kept).context(self.file.display())
    }

    /// Dials until `count` sessions are open.
    ///
    /// # Errors
    ///
    /// One of them fails.
    pub async fn dial(&mut self, count: usize) -> Result<(), Failure> {
        let (identity, address) = self.relay.clone().context("nobody is enrolled")?;
        let permits = Arc::new(Semaphore::new(DIALS_MAX));
        let mut dialling = JoinSet::new();
        for member in self.members[self.dialled..count].iter().cloned() {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .context("closed")?;
            let world = self.world.clone();
            let options = options(
                vec![address.clone()],
                identity,
                self.transport,
                &member.instance,
            );
            dialling.spawn(async move {
                let credential = Credential::Known {
                    agent_id: member.agent_id,
                    key: KeyPair::from_seed(&member.seed),
                    start_counter: 1,
                };
                let mut dialled = tunnel::dial(&world, &options, &credential).await;
                // On a busy machine one of thousands may find no time; agents try again.
                for _ in 0..DIALS_AGAIN {
                    if dialled.is_ok() {
                        break;
                    }
                    dialled = tunnel::dial(&world, &options, &credential).await;
                }
                drop(permit);
                dialled
            });
        }
        while let Some(dialled) = dialling.join_next().await {
            let session = dialled.context("a dial")?.context("a dial")?.session;
            session.send_control(report(self.dialled));
            self.dialled += 1;
            self.live
                .spawn(async move { while session.recv_control().await.is_some() {} });
        }
        Ok(())
    }

    /// So many of its members, from one on, as they dial.
    ///
    /// # Errors
    ///
    /// There are not as many.
    pub fn agents(
        &self,
        from: usize,
        count: usize,
    ) -> Result<Vec<Arc<(DialOptions, Credential)>>, Failure> {
        let (identity, address) = self.relay.clone().context("nobody is enrolled")?;
        let members = self.members.get(from..from + count);
        let members = members.context("too few are enrolled")?;
        let agent = |member: &Member| {
            let addresses = vec![address.clone()];
            let options = options(addresses, identity, self.transport, &member.instance);
            let credential = Credential::Known {
                agent_id: member.agent_id,
                key: KeyPair::from_seed(&member.seed),
                start_counter: 1,
            };
            Arc::new((options, credential))
        };
        Ok(members.iter().map(agent).collect())
    }

    /// Sessions that have ended although nobody asked them to.
    pub fn lost(&mut self) -> usize {
        while self.live.try_join_next().is_some() {}
        self.dialled - self.live.len()
    }

    fn to_json(&self) -> Value {
        let (identity, address) = self.relay.clone().unwrap_or((
            PublicKey([0; 32]),
            RelayAddress {
                host: String::new(),
                tunnel_port: 0,
                https_port: 0,
            },
        ));
        let members: Vec<Value> = self
            .members
            .iter()
            .map(|member| {
                json!([
                    member.agent_id.as_bytes(),
                    member.seed.expose(),
                    member.instance.as_bytes(),
                ])
            })
            .collect();
        json!({
            "identity": identity.0,
            "host": address.host,
            "tunnel_port": address.tunnel_port,
            "https_port": address.https_port,
            "members": members,
        })
    }
}

/// What to do about a file that cannot be understood.
const DAMAGED: &str = "damaged: remove the folder that it is in";

type Kept = (Option<(PublicKey, RelayAddress)>, Vec<Member>);

fn read(kept: &Value) -> Result<Kept, Failure> {
    let port = |key: &str| kept[key].as_u64().and_then(|port| u16::try_from(port).ok());
    let address = RelayAddress {
        host: kept["host"].as_str().context(DAMAGED)?.to_owned(),
        tunnel_port: port("tunnel_port").context(DAMAGED)?,
        https_port: port("https_port").context(DAMAGED)?,
    };
    let identity = PublicKey::from_slice(&bytes(&kept["identity"])).context(DAMAGED)?;
    let mut members = Vec::new();
    for member in kept["members"].as_array().context(DAMAGED)? {
        members.push(Member {
            agent_id: AgentId::from_slice(&bytes(&member[0])).context(DAMAGED)?,
            seed: Secret::from_slice(&bytes(&member[1])).context(DAMAGED)?,
            instance: InstanceId::from_slice(&bytes(&member[2])).context(DAMAGED)?,
        });
    }
    Ok((Some((identity, address)), members))
}

fn bytes(value: &Value) -> Vec<u8> {
    let numbers = value.as_array().map(Vec::as_slice).unwrap_or_default();
    numbers
        .iter()
        .filter_map(|number| u8::try_from(number.as_u64()?).ok())
        .collect()
}

async fn enrol_one(
    world: &World,
    token: &str,
    transport: TransportChoice,
) -> Result<((PublicKey, RelayAddress), Member), Failure> {
    let token: EnrolToken = token.parse().context("the token")?;
    let seed = Secret::from_bytes(world.random());
    let instance = InstanceId::from_bytes(world.random());
    let mut address = token.addresses.first().context("no address")?.clone();
    // A name would be looked up ten thousand times.
    address.host = "127.0.0.1".into();
    let options = options(
        vec![address.clone()],
        token.relay_identity,
        transport,
        &instance,
    );
    let credential = Credential::Enrol {
        secret: token.secret,
        key: KeyPair::from_seed(&seed),
        start_counter: 1,
    };
    let dialled = tunnel::dial(world, &options, &credential).await;
    let dialled = dialled.context("an enrolment")?;
    let agent_id = dialled
        .welcome
        .agent_id
        .context("a welcome without an id")?;
    let member = Member {
        agent_id,
        seed,
        instance,
    };
    Ok(((token.relay_identity, address), member))
}

fn options(
    addresses: Vec<RelayAddress>,
    identity: PublicKey,
    transports: TransportChoice,
    instance: &InstanceId,
) -> DialOptions {
    let who = ("sternline-agent/0.1.0".into(), *instance);
    DialOptions {
        transports,
        resume_window: wire::limits::RESUME_WINDOW,
        ..DialOptions::new(addresses, Trust::Identity(identity), who)
    }
}

/// What an ordinary agent tells of its host.
fn report(index: usize) -> control::Message {
    control::Message::AgentReport(AgentReport {
        hostname: format!("host-{index:06}.customer.example"),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        arch: "x86_64".into(),
        kernel: "6.1.0-18-amd64".into(),
        software: "sternline-agent/0.1.0".into(),
        docker: Some(Docker {
            state: docker::State::Ok.into(),
            engine_version: "28.5.1".into(),
            api_version: "1.51".into(),
            detail: String::new(),
        }),
        allowed_targets: vec!["docker".into(), "tcp:db.internal:5432".into()],
        sandbox: "Landlock ABI 6, seccomp".into(),
        resident_bytes: 9 * 1024 * 1024,
        ..AgentReport::default()
    })
}
