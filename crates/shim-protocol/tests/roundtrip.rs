//! Every message survives its encoding, and nothing a stranger sends makes the decoder panic.

use proptest::prelude::*;
use shim_protocol::{
    Attach, ContainerState, Exec, Exit, PidNamespace, Request, Response, Start, Status, take_frame,
};

fn exit() -> impl Strategy<Value = Exit> {
    (any::<i32>(), any::<i64>(), any::<bool>()).prop_map(|(code, at, oom_killed)| Exit {
        code,
        at,
        oom_killed,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let text = || ".{0,20}";
    prop_oneof![
        Just(Request::Subscribe),
        Just(Request::Shutdown),
        (proptest::collection::vec(text(), 7), any::<bool>(), any::<bool>()).prop_map(
            |(t, stdin, stdin_once)| {
                Request::Start(Start {
                    container: t[0].clone(),
                    plan: t[6].clone(),
                    pid_namespace: if stdin { PidNamespace::Join(t[1].clone()) } else { PidNamespace::Host },
                    argv: t.clone(),
                    pid_file: t[1].clone(),
                    exit_file: t[2].clone(),
                    log_file: t[3].clone(),
                    oom_file: t[4].clone(),
                    console: t[5].clone(),
                    terminal: stdin_once,
                    stdin,
                    stdin_once,
                })
            }
        ),
        (text(), any::<i32>()).prop_map(|(container, signal)| Request::Kill { container, signal }),
        text().prop_map(|container| Request::Forget { container }),
        text().prop_map(|container| Request::ReopenLog { container }),
        (text(), any::<u32>(), any::<u32>()).prop_map(|(container, width, height)| Request::Resize {
            container,
            width,
            height
        }),
        (text(), proptest::collection::vec(text(), 0..4), text(), text()).prop_map(
            |(container, argv, pid_file, console)| Request::Exec(Exec {
                plan: container.clone(),
                container,
                argv,
                pid_file,
                console
            })
        ),
        any::<i32>().prop_map(|signal| Request::Signal { signal }),
        (text(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(container, stdin, stdout, stderr)| Request::Attach(Attach { container, stdin, stdout, stderr })
        ),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let status = prop_oneof![
        Just(Status::Starting),
        (any::<i32>(), any::<i64>()).prop_map(|(pid, at)| Status::Running { pid, at }),
        (any::<i64>(), exit()).prop_map(|(at, exit)| Status::Exited { at, exit }),
    ];
    let state = (".{0,20}", status).prop_map(|(container, status)| ContainerState { container, status });
    prop_oneof![
        Just(Response::Done),
        ".{0,20}".prop_map(|message| Response::Failed { message }),
        proptest::collection::vec(state, 0..4).prop_map(|containers| Response::State { containers }),
        (".{0,20}", any::<i32>(), any::<i64>()).prop_map(|(container, pid, at)| Response::Started {
            container,
            pid,
            at
        }),
        (".{0,20}", exit()).prop_map(|(container, exit)| Response::Exited { container, exit }),
    ]
}

proptest! {
    #[test]
    fn requests_survive(request in request()) {
        let mut buffer = request.encode();
        buffer.extend_from_slice(b"xyz");
        let frame = take_frame(&mut buffer).unwrap().unwrap();
        prop_assert_eq!(Request::decode(&frame), Ok(request));
        prop_assert_eq!(buffer, b"xyz");
    }

    #[test]
    fn responses_survive(response in response()) {
        let mut buffer = response.encode();
        let frame = take_frame(&mut buffer).unwrap().unwrap();
        prop_assert_eq!(Response::decode(&frame), Ok(response));
    }

    #[test]
    fn a_cut_request_is_refused(request in request(), cut in any::<prop::sample::Index>()) {
        let mut buffer = request.encode();
        let frame = take_frame(&mut buffer).unwrap().unwrap();
        prop_assert!(Request::decode(&frame[..cut.index(frame.len())]).is_err());
    }

    #[test]
    fn noise_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::decode(&bytes);
        let _ = Response::decode(&bytes);
        let _ = take_frame(&mut bytes);
    }

    #[test]
    fn exits_survive_the_disk(exit in exit()) {
        prop_assert_eq!(Exit::from_line(&exit.to_line()), Some(exit));
    }
}
