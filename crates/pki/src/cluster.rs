//! All files that a cluster's parts need to trust each other.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

use crate::files::{read_if_there, write_private, write_public};
use crate::{Authority, Error, Kubeconfig, Leaf};

/// The names by which the API server is reached, and the cluster's own.
pub struct Names {
    /// The cluster's name in kubeconfig files.
    pub cluster: String,
    /// `https://host:port`, as clients on other machines reach it.
    pub server: String,
    /// The DNS domain of the cluster's Services.
    pub domain: String,
    /// The addresses of the API server: the machine's, and the first of the Service range.
    pub addresses: Vec<IpAddr>,
    /// Further names of the machine.
    pub hostnames: Vec<String>,
}

/// The files of a cluster under one directory, with everything that was missing made.
pub struct Cluster {
    directory: PathBuf,
    authority: Authority,
    names: Names,
}

/// What one node needs.
pub struct NodeFiles {
    pub serving_certificate: PathBuf,
    pub serving_key: PathBuf,
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// The control plane's files under `directory`: authorities, the API server's certificates, the key that signs
    /// service-account tokens, and a kubeconfig for each part and for the administrator.
    pub fn ensure(directory: &Path, names: Names) -> Result<Self, Error> {
        let authority = Authority::ensure(directory, "ca", "kubernetes")?;
        let front_proxy = Authority::ensure(directory, "front-proxy-ca", "front-proxy-ca")?;
        let mut dns_names = vec![
            "localhost".to_owned(),
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            format!("kubernetes.default.svc.{}", names.domain),
        ];
        dns_names.extend(names.hostnames.iter().cloned());
        let mut addresses = names.addresses.clone();
        addresses.push(IpAddr::from([127, 0, 0, 1]));
        let apiserver = Leaf {
            common_name: "kube-apiserver".to_owned(),
            dns_names,
            addresses,
            server: true,
            ..Leaf::default()
        };
        authority.ensure_leaf(directory, "apiserver", &apiserver)?;
        let kubelet_client = Leaf::client("kube-apiserver-kubelet-client", Some("system:masters"));
        authority.ensure_leaf(directory, "apiserver-kubelet-client", &kubelet_client)?;
        front_proxy.ensure_leaf(
            directory,
            "front-proxy-client",
            &Leaf::client("front-proxy-client", None),
        )?;
        ensure_signing_key(directory)?;

        let cluster = Self { directory: directory.to_owned(), authority, names };
        let parts = [
            ("admin", "kubernetes-admin", Some("system:masters")),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("kube-proxy", "system:kube-proxy", None),
        ];
        for (file, user, group) in parts {
            cluster.kubeconfig(file, &Leaf::client(user, group))?;
        }
        Ok(cluster)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The cluster's authority, in PEM, as pods find it in `kube-root-ca.crt`.
    pub fn authority(&self) -> &str {
        self.authority.certificate()
    }

    /// A kubeconfig of that file name (without `.conf`) whose user is `leaf`'s.
    pub fn kubeconfig(&self, file: &str, leaf: &Leaf) -> Result<PathBuf, Error> {
        let path = self.directory.join(format!("{file}.conf"));
        let credentials = self.authority.ensure_leaf(&self.directory, file, leaf)?;
        let rendered = Kubeconfig {
            cluster: &self.names.cluster,
            server: &self.names.server,
            authority: self.authority(),
            user: &leaf.common_name,
            credentials: &credentials,
        }
        .render();
        if read_if_there(&path)?.as_deref() != Some(&rendered) {
            write_private(&path, &rendered)?;
        }
        Ok(path)
    }

    /// The kubelet's serving certificate and kubeconfig for the node of that name and these addresses.
    pub fn node(&self, name: &str, addresses: &[IpAddr]) -> Result<NodeFiles, Error> {
        let file = format!("kubelet-{name}");
        let serving = Leaf {
            common_name: format!("system:node:{name}"),
            organization: Some("system:nodes".to_owned()),
            dns_names: vec![name.to_owned()],
            addresses: addresses.to_vec(),
            server: true,
            client: false,
        };
        let serving_name = format!("{file}-serving");
        self.authority.ensure_leaf(&self.directory, &serving_name, &serving)?;
        let user = Leaf::client(&format!("system:node:{name}"), Some("system:nodes"));
        Ok(NodeFiles {
            serving_certificate: self.directory.join(format!("{serving_name}.crt")),
            serving_key: self.directory.join(format!("{serving_name}.key")),
            kubeconfig: self.kubeconfig(&file, &user)?,
        })
    }
}

/// `sa.key` signs service-account tokens, `sa.pub` checks them.
fn ensure_signing_key(directory: &Path) -> Result<(), Error> {
    let path = directory.join("sa.key");
    let key = match read_if_there(&path)? {
        Some(pem) => KeyPair::from_pem(&pem).map_err(|e| Error::Unusable {
            what: "private key",
            path: path.clone(),
            reason: e.to_string(),
        })?,
        None => {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
                .map_err(|source| Error::Issue { subject: "service accounts".to_owned(), source })?;
            write_private(&path, &key.serialize_pem())?;
            key
        }
    };
    let public = directory.join("sa.pub");
    if read_if_there(&public)?.as_deref() != Some(&key.public_key_pem()) {
        write_public(&public, &key.public_key_pem())?;
    }
    Ok(())
}
