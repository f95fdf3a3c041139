//! Security contexts, as the kernel sees them.

use k8s_cri::v1::*;
use tonic::Code;

use crate::containers::Pod;
use crate::host::with_host;

fn with(mut config: ContainerConfig, context: LinuxContainerSecurityContext) -> ContainerConfig {
    config.linux.get_or_insert_default().security_context = Some(context);
    config
}

#[test]
fn who_a_process_is() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "who").await;
        let none = LinuxContainerSecurityContext::default;
        let user =
            |uid| LinuxContainerSecurityContext { run_as_user: Some(Int64Value { value: uid }), ..none() };
        let ambient = LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
                drop_capabilities: vec!["ALL".into()],
                ..Default::default()
            }),
            no_new_privs: true,
            ..user(101)
        };
        let dropped = LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: vec!["CHOWN".into()],
                drop_capabilities: vec!["ALL".into()],
                ..Default::default()
            }),
            ..none()
        };
        let strict = LinuxContainerSecurityContext {
            supplemental_groups: vec![7],
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict as i32,
            ..user(101)
        };
        let named = LinuxContainerSecurityContext { run_as_username: "web".into(), ..none() };
        #[expect(deprecated, reason = "older clients set it")]
        let filtered =
            LinuxContainerSecurityContext { seccomp_profile_path: "runtime/default".into(), ..none() };
        let capabilities = "grep -E 'Cap(Eff|Amb|Bnd)' /proc/self/status";
        for (number, (context, script, expected)) in [
            (user(5000), "id -u; id -g; id -G", "5000\n0\n0\n"),
            (strict, "id -G", "102 7\n"),
            (named, "id -u; id -G", "101\n102 200\n"),
            (
                ambient,
                capabilities,
                "CapEff:\t0000000000000400\nCapBnd:\t0000000000000400\nCapAmb:\t0000000000000400\n",
            ),
            (
                dropped,
                capabilities,
                "CapEff:\t0000000000000001\nCapBnd:\t0000000000000001\nCapAmb:\t0000000000000000\n",
            ),
            (none(), "grep Seccomp: /proc/self/status", "Seccomp:\t0\n"),
            (filtered, "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"),
            // A client that names no paths to be hidden has forgotten it.
            (none(), "wc -c < /proc/interrupts; grep -c ' /proc/sys ' /proc/mounts", "0\n1\n"),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("c{number}");
            let (_, log) = pod.run_container(&mut host, with(pod.script(&name, script), context)).await;
            let lines: String =
                log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).map(|l| format!("{l}\n")).collect();
            assert_eq!(lines, expected, "{script}");
        }
        for (number, context) in [
            LinuxContainerSecurityContext { run_as_group: Some(Int64Value { value: 1 }), ..none() },
            LinuxContainerSecurityContext { run_as_username: "nobody-here".into(), ..none() },
            LinuxContainerSecurityContext { privileged: true, ..none() },
            LinuxContainerSecurityContext {
                seccomp: Some(SecurityProfile {
                    profile_type: security_profile::ProfileType::Localhost as i32,
                    localhost_ref: "relative.json".into(),
                }),
                ..none()
            },
        ]
        .into_iter()
        .enumerate()
        {
            let config = with(pod.script(&format!("bad{number}"), "true"), context.clone());
            let error = pod.create(&mut host, config).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{context:?}: {error}");
        }
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn namespaces_and_what_is_in_them() {
    with_host(|mut host| async move {
        let mut config = Pod::config(&host, "spaces");
        config.dns_config = Some(DnsConfig {
            servers: vec!["10.1.2.3".into()],
            searches: vec!["a.b".into()],
            options: vec!["ndots:5".into()],
        });
        let linux = config.linux.get_or_insert_default();
        linux.sysctls = [("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_local_port_range", "1024 65000")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let pod = Pod::run_with(&mut host, config).await;
        let pid = |mode: NamespaceMode| LinuxContainerSecurityContext {
            namespace_options: Some(NamespaceOption { pid: mode as i32, ..Default::default() }),
            ..Default::default()
        };
        let script = "cat /etc/resolv.conf /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_local_port_range; \
                      stat -c '%a %n' /new /new/dir; pwd; echo $$; cat /proc/1/comm";
        let mut own = with(pod.script("own", script), pid(NamespaceMode::Container));
        own.working_dir = "/new/dir".into();
        let (_, log) = pod.run_container(&mut host, own).await;
        let lines: Vec<&str> = log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
        assert_eq!(
            lines,
            [
                "search a.b",
                "nameserver 10.1.2.3",
                "options ndots:5",
                "1",
                "1024\t65000",
                "755 /new",
                "755 /new/dir",
                "/new/dir",
                "1",
                "cat"
            ]
        );
        let (_, log) = pod
            .run_container(&mut host, with(pod.script("pod", "cat /proc/1/comm"), pid(NamespaceMode::Pod)))
            .await;
        assert!(log.contains("pod-init"), "{log}");
        let target = pod
            .start(&mut host, with(pod.script("target", "exec sleep 1000"), pid(NamespaceMode::Container)))
            .await;
        let mut joined = pid(NamespaceMode::Target);
        joined.namespace_options.get_or_insert_default().target_id = target;
        let config = with(pod.script("joined", "cat /proc/1/comm"), joined);
        let (_, log) = pod.run_container(&mut host, config).await;
        assert!(log.contains("sleep"), "{log}");
        pod.remove(&mut host).await;

        let bad = |context: LinuxSandboxSecurityContext| {
            let mut config = Pod::config(&host, "bad");
            config.linux.get_or_insert_default().security_context = Some(context);
            RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() }
        };
        let group =
            LinuxSandboxSecurityContext { run_as_group: Some(Int64Value { value: 1 }), ..Default::default() };
        let error = bad(group);
        let error = host.runtime.run_pod_sandbox(error).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        let mut config = Pod::config(&host, "bad");
        let linux = config.linux.get_or_insert_default();
        linux.sysctls = [("kernel.panic".to_owned(), "1".to_owned())].into();
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let error = host.runtime.run_pod_sandbox(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
