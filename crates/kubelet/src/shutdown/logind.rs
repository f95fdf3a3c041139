//! logind: who delays the machine's shutdown, and tells of it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use dbus::{Connection, Error, Message, Value};

const SERVICE: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Where logind is.
pub struct Place {
    pub bus: PathBuf,
    /// Where its configuration may be added to.
    pub config: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            bus: "/run/dbus/system_bus_socket".into(),
            config: "/etc/systemd/logind.conf.d/99-kubelet.conf".into(),
        }
    }
}

pub struct Logind {
    connection: Connection,
    config: PathBuf,
}

fn call(member: &str, body: Vec<Value>) -> Message {
    Message::call(SERVICE, PATH, MANAGER, member, body)
}

impl Logind {
    pub async fn open(place: &Place) -> Result<Self, Error> {
        let mut connection = Connection::open(&place.bus).await?;
        connection.listen(MANAGER, "PrepareForShutdown").await?;
        Ok(Self { connection, config: place.config.clone() })
    }

    /// How long it lets a shutdown be delayed.
    async fn delay(&mut self) -> Result<Duration, Error> {
        let body = vec![Value::Text(MANAGER.into()), Value::Text("InhibitDelayMaxUSec".into())];
        let get = Message::call(SERVICE, PATH, "org.freedesktop.DBus.Properties", "Get", body);
        match self.connection.call(get).await?.body.into_iter().next() {
            Some(Value::Variant(value)) => match *value {
                Value::Long(micros) => Ok(Duration::from_micros(micros)),
                _ => Err(Error::Malformed("InhibitDelayMaxUSec is no number")),
            },
            _ => Err(Error::Malformed("InhibitDelayMaxUSec has no value")),
        }
    }

    /// Has it let us delay a shutdown for that long, by a file of its configuration.
    pub async fn allow(&mut self, wanted: Duration) -> Result<(), Error> {
        if self.delay().await? >= wanted {
            return Ok(());
        }
        if let Some(dir) = self.config.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let text = format!("# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={}\n", wanted.as_secs());
        std::fs::write(&self.config, text)?;
        const HANG_UP: i32 = 1;
        let body = vec![
            Value::Text("systemd-logind.service".into()),
            Value::Text("all".into()),
            Value::Int(HANG_UP),
        ];
        let kill = Message::call(
            SYSTEMD,
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "KillUnit",
            body,
        );
        self.connection.call(kill).await?;
        let now = self.delay().await?;
        if now >= wanted {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "InhibitDelayMaxSec of logind is {now:?}, less than the {wanted:?} that shutdownGracePeriod asks for"
        )))
    }

    /// The machine does not go down while this is held, for as long as it lets us.
    pub async fn inhibit(&mut self) -> Result<OwnedFd, Error> {
        let body = ["shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay"];
        let body = body.map(|word| Value::Text(word.into())).into();
        let answer = self.connection.call(call("Inhibit", body)).await?;
        answer.fds.into_iter().next().ok_or(Error::Malformed("Inhibit gave no lock"))
    }

    /// Whether the machine is going down now, or is not any more.
    pub async fn next(&mut self) -> Result<bool, Error> {
        loop {
            let signal = self.connection.signal().await?;
            if let (MANAGER, "PrepareForShutdown", Some(Value::Flag(down))) =
                (signal.interface.as_str(), signal.member.as_str(), signal.body.first())
            {
                return Ok(*down);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;
    use dbus::testing::Bus;

    /// Allows five seconds, and as many as the file says when it is told to read it.
    async fn fake(mut connection: Connection, place: PathBuf, lock: std::io::PipeWriter) {
        let mut allowed = 5_000_000;
        let mut lock = Some(lock);
        loop {
            let message = connection.called().await;
            match message.member.as_str() {
                "Get" => {
                    let value = Value::Variant(Box::new(Value::Long(allowed)));
                    connection.reply(&message, vec![value], None).await;
                }
                "KillUnit" => {
                    let text = std::fs::read_to_string(&place).unwrap();
                    let seconds: u64 = text.trim().rsplit('=').next().unwrap().parse().unwrap();
                    allowed = seconds * 1_000_000;
                    connection.reply(&message, vec![], None).await;
                }
                "Inhibit" => {
                    assert_eq!(message.body[3], Value::Text("delay".into()));
                    let given = lock.take().unwrap();
                    connection.reply(&message, vec![Value::Fd(0)], Some(given.as_fd())).await;
                    drop(given);
                    connection.emit(PATH, MANAGER, "PrepareForShutdown", vec![Value::Flag(true)]).await;
                    connection.emit(PATH, MANAGER, "PrepareForShutdown", vec![Value::Flag(false)]).await;
                }
                other => panic!("{other} is not called"),
            }
        }
    }

    #[tokio::test]
    async fn a_shutdown_is_delayed() {
        let dir = tempfile::tempdir().unwrap();
        let _bus = Bus::start(dir.path());
        let place = Place { bus: dir.path().join("bus"), config: dir.path().join("conf.d/99-kubelet.conf") };
        let mut service = Connection::open(&place.bus).await.unwrap();
        service.own(SERVICE).await;
        service.own(SYSTEMD).await;
        let (mut released, lock) = std::io::pipe().unwrap();
        let service = tokio::spawn(fake(service, place.config.clone(), lock));
        let mut logind = Logind::open(&place).await.unwrap();
        logind.allow(Duration::from_secs(3)).await.unwrap();
        assert!(!place.config.exists(), "it was enough already");
        logind.allow(Duration::from_secs(60)).await.unwrap();
        let lock = logind.inhibit().await.unwrap();
        assert!(logind.next().await.unwrap());
        assert!(!logind.next().await.unwrap());
        // Nobody else holds it: the shutdown goes on when we let go.
        drop(lock);
        assert_eq!(released.read(&mut [0]).unwrap(), 0);
        service.abort();
    }
}
