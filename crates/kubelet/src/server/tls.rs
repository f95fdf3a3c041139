//! The listener of the kubelet's API, with the certificate that it has been given or has asked for.

use std::sync::Arc;

use serving::tls::{self, Files, FirstOf, ServeError, Tls};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Server, routes};

fn tls(server: &Server) -> Result<Tls, ServeError> {
    let options = &server.ctx.options;
    let roots = match options.client_ca.as_os_str().is_empty() {
        true => Vec::new(),
        false => tls::certificates(&options.client_ca)?,
    };
    if !options.tls_cert.as_os_str().is_empty() {
        let given = Files::new(options.tls_cert.clone(), options.tls_key.clone());
        given.check()?;
        return Tls::new(Arc::new(given), roots);
    }
    // Asked for; it may come later.
    let current = crate::identity::Pair::serving(&options.cert_dir).current();
    let mut own = vec![Files::new(current.clone(), current)];
    if options.joined {
        // A cluster that is not ours may never sign it.
        let (certificate, key) =
            crate::identity::self_signed(&options.cert_dir, &options.node_name, &options.node_ips)
                .map_err(|error| ServeError::Tls(error.to_string()))?;
        own.push(Files::new(certificate, key));
    }
    Tls::new(Arc::new(FirstOf(own)), roots)
}

/// Serves until `shutdown`.
pub async fn serve(server: Server, shutdown: CancellationToken) -> Result<(), ServeError> {
    let tls = Arc::new(tls(&server)?);
    let address = server.ctx.options.listen;
    let listener = tls::listen(address).await?;
    info!(%address, "serving the kubelet's API");
    let handle = move |user, request| {
        let server = server.clone();
        async move { routes::handle(server, user, request).await }
    };
    tls::serve(listener, tls, handle, shutdown).await;
    Ok(())
}
