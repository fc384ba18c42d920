//! Stacks over a whole node: from a deployment to an agent's end of a stream, and back.

use std::convert::Infallible;

use compose::exchange::{
    Accepted, Assignment, BlobState, Cause, Desired, Phase, Refused, StackReport, Update,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::sync::broadcast;

use super::*;
use crate::control::{
    BundleFile, DeployOptions, DeployRequest, Manifest, Source, StackState, StackView, Targets,
    digest_of,
};

/// The agent's end, as a test has it behave.
#[derive(Debug)]
struct Scripted {
    /// Assignments that came, and for whom.
    taken: Mutex<Vec<(String, Assignment)>>,
    /// Files that came, by digest.
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What is told to who follows; the first line is a snapshot of these.
    told: Mutex<Vec<StackReport>>,
    updates: broadcast::Sender<Update>,
    /// Why assignments are refused, where they are.
    refuses: Mutex<Option<Refused>>,
}

type Body = Either<Full<Bytes>, http_body_util::combinators::BoxBody<Bytes, Infallible>>;

fn report(assignment: u64, phase: Phase) -> StackReport {
    StackReport {
        stack: "shop".to_owned(),
        assignment,
        release: Some("r1".to_owned()),
        committed: None,
        phase,
        since_ms: 0,
        deadline_ms: None,
        cause: None,
        services: BTreeMap::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
        drift: Vec::new(),
        digests: BTreeMap::new(),
        operations: 3,
        wanted_images: Vec::new(),
    }
}

fn json(status: StatusCode, document: &impl serde::Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(document).unwrap();
    let mut response = Response::new(Either::Left(Full::new(bytes.into())));
    *response.status_mut() = status;
    response
}

fn line(update: &Update) -> Frame<Bytes> {
    let mut bytes = serde_json::to_vec(update).unwrap();
    bytes.push(b'\n');
    Frame::data(bytes.into())
}

impl Scripted {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            files: Mutex::default(),
            told: Mutex::default(),
            updates: broadcast::Sender::new(64),
            refuses: Mutex::default(),
        })
    }

    /// Serves every stream of a session.
    fn serve(self: &Arc<Self>, session: Session) -> JoinHandle<()> {
        let agent = self.clone();
        tokio::spawn(async move {
            while let Some(incoming) = session.accept().await {
                if incoming.open.target != Target::Stacks {
                    incoming.reject(ResetCode::BadRequest, "stacks alone");
                    continue;
                }
                let (agent, principal) = (agent.clone(), incoming.open.principal.clone());
                let stream = TokioIo::new(incoming.accept());
                tokio::spawn(async move {
                    let answer = service_fn(|request| {
                        let (agent, principal) = (agent.clone(), principal.clone());
                        async move { Ok::<_, Infallible>(agent.answer(&principal, request).await) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new();
                    serving.serve_connection(stream, answer).await.ok();
                });
            }
        })
    }

    async fn answer(&self, principal: &str, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path();
        match (parts.method, path) {
            (Method::PUT, "/v1/stacks/shop") => {
                if let Some(refused) = &*self.refuses.lock().unwrap() {
                    return json(StatusCode::FORBIDDEN, refused);
                }
                let assignment: Assignment = serde_json::from_slice(&body).unwrap();
                let missing = self.missing(&assignment);
                self.taken
                    .lock()
                    .unwrap()
                    .push((principal.to_owned(), assignment));
                json(StatusCode::OK, &Accepted { missing })
            }
            (Method::GET, "/v1/follow") => self.follow(),
            (method, path) if path.starts_with("/v1/blobs/") => {
                let digest = path.trim_start_matches("/v1/blobs/").to_owned();
                let mut files = self.files.lock().unwrap();
                let file = files.entry(digest.clone()).or_default();
                if method == Method::PUT {
                    file.extend_from_slice(&body);
                }
                let complete = digest_of(file) == digest;
                let received = file.len() as u64;
                json(StatusCode::OK, &BlobState { received, complete })
            }
            _ => json(
                StatusCode::NOT_FOUND,
                &Refused {
                    code: "not_found".to_owned(),
                    reason: "there is nothing here".to_owned(),
                    details: Vec::new(),
                },
            ),
        }
    }

    fn follow(&self) -> Response<Body> {
        let updates = self.updates.subscribe();
        let stacks = self.told.lock().unwrap().clone();
        let first = line(&Update::Snapshot { stacks });
        let lines =
            futures_util::stream::unfold((Some(first), updates), async |(first, mut rest)| {
                let next = match first {
                    Some(first) => first,
                    None => line(&rest.recv().await.ok()?),
                };
                Some((Ok::<_, Infallible>(next), (None, rest)))
            });
        Response::new(Either::Right(StreamBody::new(lines).boxed()))
    }

    /// Files of an assignment that have not come.
    fn missing(&self, assignment: &Assignment) -> Vec<String> {
        let Desired::Run { stack, .. } = &assignment.desired else {
            return Vec::new();
        };
        let files = self.files.lock().unwrap();
        let shipped = stack.files.values().filter_map(|file| match file {
            compose::model::Shipped::File { digest, .. } => Some(digest.clone()),
            _ => None,
        });
        shipped
            .filter(|digest| !files.contains_key(digest))
            .collect()
    }

    fn tell(&self, report: StackReport) {
        let mut told = self.told.lock().unwrap();
        told.retain(|one| one.stack != report.stack);
        told.push(report.clone());
        self.updates.send(Update::Stack(Box::new(report))).ok();
    }
}

const COMPOSE: &str = "services:\n  web:\n    image: web:1\n    configs: [site]\n\
     configs:\n  site:\n    file: ./site.conf\n";
const CONFIG: &str = "listen 80;\n";

impl Site {
    async fn deploy_request(&self) -> DeployRequest {
        let mut files = BTreeMap::new();
        for (path, text) in [("compose.yml", COMPOSE), ("site.conf", CONFIG)] {
            let digest = digest_of(text.as_bytes());
            let control = self.node.control();
            let put = control.put_blob(&self.principal, &digest, text.as_bytes());
            put.await.unwrap();
            let size = text.len() as u64;
            files.insert(
                path.to_owned(),
                BundleFile {
                    digest,
                    size,
                    mode: 0o644,
                },
            );
        }
        DeployRequest {
            stack: "shop".to_owned(),
            targets: Targets::Named(vec!["berlin".to_owned()]),
            source: Source::Bundle {
                manifest: Box::new(Manifest {
                    stack: "shop".to_owned(),
                    compose: vec!["compose.yml".to_owned()],
                    files,
                    ..Manifest::default()
                }),
                note: String::new(),
            },
            secrets: BTreeMap::new(),
            options: DeployOptions::default(),
            key: None,
        }
    }

    async fn deploy(&self) -> u64 {
        let request = self.deploy_request().await;
        let deployed = self.node.control().deploy(&self.principal, request).await;
        deployed.unwrap().assignments[0].number
    }

    /// Waits until the stack is so far.
    async fn until(&self, is: impl Fn(&StackView) -> bool) -> StackView {
        let control = self.node.control();
        let mut events = control.watch_stacks();
        loop {
            let views = control
                .stack_views(&self.principal, (Some("shop"), None))
                .await
                .unwrap();
            if let Some(view) = views.into_iter().find(|view| is(view)) {
                return view;
            }
            events.recv().await.unwrap();
        }
    }
}

#[test]
fn a_deployment_reaches_the_agent_with_its_files_and_its_end_comes_back() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let agent = Scripted::new();
        let _serving = agent.serve(dialled.session);

        let number = site.deploy().await;
        site.until(|view| view.is_live).await;
        let config = digest_of(CONFIG.as_bytes());
        agent.tell(report(number, Phase::Verifying));
        site.until(|view| view.state == StackState::At(Phase::Verifying))
            .await;
        let digests = BTreeMap::from([("web:1".to_owned(), "sha256:1".to_owned())]);
        agent.tell(StackReport {
            digests: digests.clone(),
            ..report(number, Phase::Committed)
        });
        let view = site.until(|view| view.settled_at.is_some()).await;

        let release = site.node.control().release(&site.principal, "shop", 1);
        assert_eq!(release.await.unwrap().pins, digests);
        assert_eq!(view.state, StackState::At(Phase::Committed));
        let taken = agent.taken.lock().unwrap();
        let [(principal, assignment)] = &taken[..] else {
            panic!("taken {} times", taken.len())
        };
        assert_eq!((principal.as_str(), assignment.number), ("relay", number));
        let files = agent.files.lock().unwrap();
        assert_eq!(
            files.get(&config).map(Vec::as_slice),
            Some(CONFIG.as_bytes())
        );
    });
}

#[test]
fn an_agent_that_was_offline_gets_what_was_assigned_meanwhile() {
    run(async {
        let site = Site::new().await;
        let added = site
            .node
            .control()
            .add_environment(&site.principal, "berlin", BTreeMap::new());
        added.await.unwrap();
        let number = site.deploy().await;
        let pending = site.until(|view| view.number == number).await;
        let dialled = site.enrol_again("berlin").await;
        let agent = Scripted::new();
        let _serving = agent.serve(dialled.session);

        agent.tell(report(number, Phase::Committed));
        let view = site.until(|view| view.settled_at.is_some()).await;

        assert_eq!(pending.state, StackState::Pending);
        assert_eq!(view.state, StackState::At(Phase::Committed));
    });
}

#[test]
fn what_an_agent_has_is_not_sent_again_and_is_last_known_once_it_is_gone() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let agent = Scripted::new();
        agent.tell(report(1, Phase::Committed));
        let serving = agent.serve(dialled.session.clone());
        assert_eq!(site.deploy().await, 1);
        site.until(|view| view.is_live && view.report.is_some())
            .await;

        serving.abort();
        dialled
            .session
            .close(CloseCode::Shutdown, "the agent stops");
        let view = site.until(|view| !view.is_live).await;

        assert_eq!(view.state, StackState::At(Phase::Committed));
        assert!(view.heard_ago.is_some());
    });
}

#[test]
fn an_agent_s_refusal_settles_the_deployment_with_each_rule() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let agent = Scripted::new();
        *agent.refuses.lock().unwrap() = Some(Refused {
            code: "policy".to_owned(),
            reason: "the policy does not allow it".to_owned(),
            details: vec!["web: registry web is not allowed".to_owned()],
        });
        let _serving = agent.serve(dialled.session);

        site.deploy().await;
        let view = site.until(|view| view.settled_at.is_some()).await;

        assert_eq!(view.state, StackState::At(Phase::Refused));
        let cause: Cause = view.cause.unwrap();
        assert_eq!(cause.code, "policy");
        assert_eq!(cause.output, ["web: registry web is not allowed"]);
    });
}

#[test]
fn an_agent_without_stacks_is_told_of_in_words() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let session = dialled.session.clone();
        let _refusing = tokio::spawn(async move {
            while let Some(incoming) = session.accept().await {
                incoming.reject(ResetCode::BadRequest, "what is that?");
            }
        });

        site.deploy().await;
        let view = site
            .until(|view| view.state == StackState::Unreachable)
            .await;

        assert!(view.cause.unwrap().line.contains("update it"));
    });
}

#[test]
fn a_stack_that_is_gone_as_asked_for_is_removed() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let agent = Scripted::new();
        let _serving = agent.serve(dialled.session);
        let number = site.deploy().await;
        agent.tell(report(number, Phase::Committed));
        site.until(|view| view.settled_at.is_some()).await;

        let targets = Targets::Assigned;
        let how = (false, &DeployOptions::default());
        let removing = site
            .node
            .control()
            .remove_stack(&site.principal, ("shop", &targets), how);
        removing.await.unwrap();
        agent.told.lock().unwrap().clear();
        let stack = "shop".to_owned();
        site.until(|view| view.release.is_none()).await;
        agent.updates.send(Update::Gone { stack }).unwrap();
        let view = site.until(|view| view.settled_at.is_some()).await;

        assert_eq!(view.state, StackState::Removed);
    });
}

#[test]
fn an_operator_s_own_stream_to_stacks_is_refused() {
    run(async {
        let site = Site::new().await;
        let _dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let request = OpenRequest {
            target: Target::Stacks,
            ..site.request("berlin")
        };

        let refused = site
            .node
            .sessions()
            .open(&site.principal, request)
            .await
            .unwrap_err();

        assert_eq!(refused.code, ResetCode::BadRequest);
        assert!(
            refused.reason.contains("sternline-relay stack"),
            "{}",
            refused.reason
        );
    });
}
