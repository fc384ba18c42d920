//! What events do to real programs and real edges: one copy of several is stopped, suspended
//! or crashed, and an edge of the kernel complains by ICMP.

use std::io::ErrorKind;

use super::*;

/// The state of a process, as `/proc` has it: `T` is stopped by a signal.
fn state(program: &programs::Program) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.pid()?)).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether something becomes true before a moment.
fn becomes(lab: &Lab, until: Instant, is_so: impl Fn() -> bool) -> bool {
    while !is_so() && lab.now() < until {
        lab.wait_until(lab.now() + Duration::from_millis(20));
    }
    is_so()
}

#[test]
fn an_event_stops_suspends_or_crashes_one_copy_and_leaves_the_others_alone() {
    let name = "deeds::an_event_stops_suspends_or_crashes_one_copy_and_leaves_the_others_alone";
    in_sandbox(name, || {
        if let Err(error) = programs::Programs::find() {
            return skip(name, &error.to_string());
        }
        let at = |second: u32, rest: &str| format!("{{ time = \"{second}s\", do = {rest} }}");
        let events = [
            at(6, "\"stop\", on = \"agent-0\", for = \"4s\""),
            at(6, "\"suspend\", on = \"agent-1\", for = \"4s\""),
            at(6, "\"crash\", on = \"agent-2\""),
            at(10, "\"start\", on = \"agent-2\""),
        ];
        let text = text(NAT, "", &format!("at = [{}]", events.join(", ")))
            .replace("runs = \"agent\"", "runs = \"agent\"\ncount = 4")
            // The NAT has no IPv6, and how long an agent tries it first is not asked here.
            .replace(", \"2001:db8:1::2/64\"", "");
        let lab = Lab::start(&sound(&text), Seed(1), Options::default());
        let lab = lab.unwrap_or_else(|error| panic!("{error}"));
        let agents = lab.agents();
        let pids = || agents.iter().map(|one| one.pid()).collect::<Vec<_>>();
        let before = pids();
        let is_done = || {
            !agents[0].is_running()
                && state(&agents[1]) == Some('T')
                && !agents[2].is_running()
                && agents[3].is_running()
        };
        let done = becomes(&lab, Instant::at(Duration::from_secs(10)), is_done);
        let is_undone = || {
            let all = agents.iter().all(|agent| agent.is_running());
            all && state(&agents[1]) != Some('T')
        };
        let end = Instant::at(Duration::from_secs(40));
        let undone = becomes(&lab, end, is_undone);
        let after = pids();
        let is_closed = || {
            let seen = lab.observations();
            let of_third = seen.iter().filter(|one| {
                one.host
                    .as_ref()
                    .is_some_and(|host| host.as_str() == "agent-2")
            });
            let words: Vec<Word> = of_third.map(|one| one.word).collect();
            let half_open = words.iter().position(|word| *word == Word::HalfOpen);
            half_open.is_some_and(|at| words[at..].contains(&Word::Closed))
        };
        let closed = becomes(&lab, end, is_closed);

        let seen: Vec<String> = lab.observations().iter().map(ToString::to_string).collect();
        assert!(done, "stopped, suspended, crashed: {seen:#?}");
        assert!(undone, "all run again: {seen:#?}");
        assert!(
            closed,
            "a relay keeps a crashed agent's session for a while: {seen:#?}"
        );
        assert_ne!(after[0], before[0], "a stopped one is started anew");
        assert_ne!(after[2], before[2], "and so is a crashed one");
        assert_eq!(after[1], before[1], "a suspended one goes on");
        assert_eq!(after[3], before[3], "and a bystander");
    });
}

#[test]
fn an_edge_that_rejects_says_so_by_icmp_whoever_it_is() {
    in_sandbox(
        "deeds::an_edge_that_rejects_says_so_by_icmp_whoever_it_is",
        || {
            for kernel in ["", "kernel = true\n"] {
                let edge = format!(
                    "{kernel}firewall = {{ rules = [{{ ports = 8001, do = \"reject\" }}] }}\n"
                );
                let lab = bare(&scenario(&edge, "", ""));
                let agent = lab.host("agent").unwrap().namespace();

                let address = "203.0.113.10:8001".parse().unwrap();
                let tcp = agent.within(|| TcpStream::connect_timeout(&address, PATIENCE));
                let udp = agent.within(|| {
                    let socket = UdpSocket::bind("0.0.0.0:0")?;
                    socket.connect(address)?;
                    socket.set_read_timeout(Some(PATIENCE))?;
                    socket.send(b"x")?;
                    socket.recv(&mut [0; 8])
                });

                assert_eq!(
                    tcp.unwrap_err().kind(),
                    ErrorKind::HostUnreachable,
                    "{kernel}"
                );
                assert_eq!(
                    udp.unwrap_err().kind(),
                    ErrorKind::HostUnreachable,
                    "{kernel}"
                );
                assert!(lab.touched().of(Cause::Rule) >= 2, "{kernel}");
                assert_eq!(lab.vacuous(), Vec::<String>::new());
            }
        },
    );
}

/// What a program on the agent's host takes the time for, in seconds since 1970.
fn date_on(lab: &Lab) -> i64 {
    let host = lab.host("agent").unwrap();
    let path = tool("date").unwrap();
    let program = programs::Program::new(host.clone(), path, vec!["+%s".into()]);
    fs::remove_file(program.log()).ok();
    program.start().unwrap();
    while program.is_running() {
        lab.wait_until(lab.now() + Duration::from_millis(5));
    }
    let said = fs::read_to_string(program.log()).unwrap();
    said.trim().parse().unwrap()
}

#[test]
fn a_clock_is_wrong_for_programs_on_its_host_alone_and_becomes_wrong_by_an_event() {
    let name =
        "deeds::a_clock_is_wrong_for_programs_on_its_host_alone_and_becomes_wrong_by_an_event";
    in_sandbox(name, || {
        const DAY: i64 = 86_400;
        let event = "at = [{ time = \"1s\", do = \"skew\", on = \"agent\", by = \"-5d\" }]";
        let text =
            text(NAT, "", event).replace("runs = \"agent\"", "runs = \"agent\"\nskew = \"2d\"");
        let lab = bare(&sound(&text));
        let right = || {
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            i64::try_from(since.as_secs()).unwrap()
        };

        let wrong = date_on(&lab) - right();
        lab.wait_for(Instant::at(PATIENCE), |one| one.word == Word::Event);
        let is_skewed = becomes(&lab, Instant::at(PATIENCE), || {
            (date_on(&lab) - right() + 3 * DAY).abs() < 60
        });

        assert!((wrong - 2 * DAY).abs() < 60, "{wrong} s");
        assert!(is_skewed, "two days more, then five less");
        assert_eq!(lab.troubles(), Vec::<String>::new());
    });
}
