//! Volumes: of the host, with propagation, and images.

use std::fs;

use k8s_cri::v1::*;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use tonic::Code;

use crate::containers::{Pod, exec};
use crate::host::{IMAGE, with_host};

#[test]
fn mounts_are_passed_on_as_asked() {
    with_host(|mut host| async move {
        let mut config = Pod::config(&host, "passing");
        config.linux.get_or_insert_default().security_context =
            Some(LinuxSandboxSecurityContext { privileged: true, ..Default::default() });
        let pod = Pod::run_with(&mut host, config).await;
        let volume = host.directory.path().join("volume");
        for name in ["volume/from-host", "volume/from-pod", "volume/below"] {
            fs::create_dir_all(host.directory.path().join(name)).unwrap();
        }
        mount_bind(&volume, &volume).unwrap();
        mount_change(&volume, MountPropagationFlags::SHARED).unwrap();
        let tmpfs =
            |name: &str| mount("none", volume.join(name), "tmpfs", MountFlags::empty(), None).unwrap();
        tmpfs("below");
        let volume_at = |path: &str, propagation: MountPropagation| Mount {
            container_path: path.into(),
            host_path: volume.display().to_string(),
            propagation: propagation as i32,
            ..Default::default()
        };
        let readonly = |path: &str, recursive| Mount {
            readonly: true,
            recursive_read_only: recursive,
            ..volume_at(path, MountPropagation::PropagationPrivate)
        };
        let mut config = pod.script("main", "exec sleep 1000");
        config.mounts = vec![
            volume_at("/private", MountPropagation::PropagationPrivate),
            volume_at("/slave", MountPropagation::PropagationHostToContainer),
            volume_at("/shared", MountPropagation::PropagationBidirectional),
            readonly("/ro", false),
            readonly("/rro", true),
        ];
        config.linux = Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext { privileged: true, ..Default::default() }),
            ..Default::default()
        });
        let id = pod.start(&mut host, config.clone()).await;
        tmpfs("from-host");
        fs::write(volume.join("from-host/seen"), "").unwrap();
        let ask = "for d in private slave shared; do test -e /$d/from-host/seen && echo $d; done; true";
        assert_eq!(exec(&mut host, &id, &["sh", "-c", ask]).await.unwrap().1, "slave\nshared\n");
        let inside = "mount -t tmpfs none /shared/from-pod && touch /shared/from-pod/seen";
        assert_eq!(exec(&mut host, &id, &["sh", "-c", inside]).await.unwrap().0, 0);
        assert!(volume.join("from-pod/seen").exists());
        let writable =
            "for d in ro ro/below rro rro/below; do touch /$d/x 2>/dev/null && echo $d; done; true";
        assert_eq!(exec(&mut host, &id, &["sh", "-c", writable]).await.unwrap().1, "ro/below\n");
        for (name, bad) in [
            ("a", Mount { readonly: false, ..readonly("/x", true) }),
            (
                "b",
                Mount {
                    propagation: MountPropagation::PropagationBidirectional as i32,
                    ..readonly("/x", true)
                },
            ),
            ("c", Mount { uid_mappings: vec![IdMapping::default()], ..readonly("/x", false) }),
        ] {
            let mut config = pod.script(name, "true");
            config.mounts = vec![bad];
            let error = pod.create(&mut host, config).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
        // The directory above the volume is on the root of the node, which is private here.
        for (name, wanted, needed) in [
            ("d", MountPropagation::PropagationBidirectional, "not a shared mount"),
            ("e", MountPropagation::PropagationHostToContainer, "not a shared or slave mount"),
        ] {
            let mut config = pod.script(name, "true");
            let host_path = host.directory.path().display().to_string();
            config.mounts = vec![Mount { host_path, ..volume_at("/x", wanted) }];
            let error = pod.create(&mut host, config).await.unwrap_err();
            assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
            assert!(error.message().contains(needed), "{error}");
        }
        pod.remove(&mut host).await;
        for name in ["from-pod", "from-host", "below", ""] {
            unmount(volume.join(name), UnmountFlags::DETACH).unwrap();
        }
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn images_are_volumes_too() {
    with_host(|mut host| async move {
        let layers = super::image::archive_of(
            "test.local/data:1",
            &[
                &[("dir/low", "low"), ("dir/both", "low"), ("link", "->/etc/passwd")],
                &[("dir/both", "top"), ("top", "top")],
            ],
        );
        let store = images::Store::open(&host.directory.path().join("root/images")).unwrap();
        store.import_from(layers.as_slice(), "test", None, &images::no_progress()).unwrap();
        let image = |path: &str, image: &str, sub_path: &str| Mount {
            container_path: path.into(),
            image: Some(ImageSpec { image: image.into(), ..Default::default() }),
            image_sub_path: sub_path.into(),
            readonly: true,
            ..Default::default()
        };
        let runc = ["/usr/bin/runc", "/usr/sbin/runc"].into_iter().find(|p| fs::exists(p).unwrap());
        host.restart_with(&[format!("runc={}", runc.unwrap_or_default())]).await;
        for handler in ["", "runc"] {
            if handler == "runc" && runc.is_none() {
                eprintln!("skipped: runc is not installed");
                continue;
            }
            let config = Pod::config(&host, &format!("images-{handler}"));
            let request =
                RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() };
            let sandbox = host.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
            let pod = Pod { sandbox, config };
            let mut config = pod.script("main", "exec sleep 1000");
            config.mounts = vec![
                image("/all", "test.local/data:1", ""),
                image("/part", "test.local/data:1", "dir"),
                image("/file", "test.local/data:1", "/dir/low"),
                image("/single", IMAGE, ""),
            ];
            let id = pod.start(&mut host, config).await;
            let script = "cat /all/dir/low /all/dir/both /all/top /part/both /file; echo; \
                          touch /all/x /part/x 2>/dev/null; /single/bin/busybox true 2>/dev/null; echo $?";
            let (_, out, _) = exec(&mut host, &id, &["sh", "-c", script]).await.unwrap();
            assert_eq!(out, "lowtoptoptoplow\n126\n");
            let mut config = pod.script("missing", "true");
            config.mounts = vec![image("/x", "test.local/data:1", "nothing")];
            let error = pod.create(&mut host, config).await.unwrap_err();
            assert!(error.code() == Code::InvalidArgument && error.message().contains("nothing"), "{error}");
            let mut config = pod.script("absent", "true");
            config.mounts = vec![image("/x", "test.local/none:1", "")];
            assert_eq!(pod.create(&mut host, config).await.unwrap_err().code(), Code::NotFound);
            pod.remove(&mut host).await;
        }
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
