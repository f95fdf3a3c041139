//! What runtime and shim say to each other.

use crate::codec::{DecodeError, Reader, Writer};

/// What the runtime asks of the shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Answered with [`Response::State`], then with [`Response::Started`] and [`Response::Exited`] of every container as they happen.
    Subscribe,
    /// Runs an OCI runtime that creates and starts a container. Answered with [`Response::Started`] or [`Response::Failed`].
    Start(Start),
    /// Sends a signal to a container's first process.
    Kill { container: String, signal: i32 },
    /// Drops what is known of an exited container.
    Forget { container: String },
    /// Opens the log file anew, after it was rotated.
    ReopenLog { container: String },
    /// Sets the size of a container's terminal.
    Resize { container: String, width: u32, height: u32 },
    /// Runs a further process in a container. Beside it travel its stdin, stdout and stderr, in this order, or none for a terminal.
    /// Answered with [`Response::Started`] (beside which the terminal travels), then with [`Response::Exited`].
    Exec(Exec),
    /// On the connection of a running exec: sends its process a signal. Not answered.
    Signal { signal: i32 },
    /// Connects to the stdio of a container's first process. Beside it travel the ends asked for. Answered with [`Response::Done`],
    /// then with [`Response::Exited`] when the container has ended and everything it wrote was passed on.
    Attach(Attach),
    /// Kills everything that is left, answers and exits.
    Shutdown,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    pub container: String,
    /// A file with a [`crate::Plan`] that the shim carries out; empty if an OCI runtime does it.
    pub plan: String,
    /// In which PID namespace a plan is carried out.
    pub pid_namespace: PidNamespace,
    /// The command line of the OCI runtime, e.g. `runc run --detach ...`.
    pub argv: Vec<String>,
    /// Where that runtime writes the process id.
    pub pid_file: String,
    /// Where the shim records how the container ended.
    pub exit_file: String,
    /// The CRI log file; empty for none.
    pub log_file: String,
    /// A file with an `oom_kill N` line, read when the container has ended; empty for none.
    pub oom_file: String,
    /// Name in the shim's directory of the socket on which the OCI runtime hands over the terminal; empty if there is none.
    pub console: String,
    pub terminal: bool,
    pub stdin: bool,
    /// Close stdin when the first client that attached to it goes.
    pub stdin_once: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PidNamespace {
    #[default]
    New,
    Host,
    Join(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    pub container: String,
    /// As in [`Start`], a [`crate::ExecPlan`].
    pub plan: String,
    pub argv: Vec<String>,
    pub pid_file: String,
    /// As in [`Start`].
    pub console: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attach {
    pub container: String,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// What the shim answers and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    Done,
    /// The request could not be carried out.
    Failed {
        message: String,
    },
    State {
        containers: Vec<ContainerState>,
    },
    Started {
        container: String,
        pid: i32,
        at: i64,
    },
    Exited {
        container: String,
        exit: Exit,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    pub container: String,
    pub status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Starting,
    /// `at` is in nanoseconds since 1970.
    Running {
        pid: i32,
        at: i64,
    },
    Exited {
        at: i64,
        exit: Exit,
    },
}

/// How a process ended. A death by signal n is code 128+n, as shells have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    /// Nanoseconds since 1970.
    pub at: i64,
    pub oom_killed: bool,
}

impl Exit {
    /// The form in which the shim leaves it on disk.
    pub fn to_line(self) -> String {
        format!("{} {} {}\n", self.code, self.at, u8::from(self.oom_killed))
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let exit = Self {
            code: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
            oom_killed: words.next()? == "1",
        };
        words.next().is_none().then_some(exit)
    }

    fn write(self, w: &mut Writer) {
        w.i32(self.code);
        w.i64(self.at);
        w.bool(self.oom_killed);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { code: r.i32()?, at: r.i64()?, oom_killed: r.bool()? })
    }
}

impl Request {
    /// A whole frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::frame(self.tag());
        match self {
            Self::Subscribe | Self::Shutdown => {}
            Self::Start(s) => {
                w.str(&s.container);
                w.str(&s.plan);
                match &s.pid_namespace {
                    PidNamespace::New => w.u8(0),
                    PidNamespace::Host => w.u8(1),
                    PidNamespace::Join(path) => {
                        w.u8(2);
                        w.str(path);
                    }
                }
                w.strs(&s.argv);
                for text in [&s.pid_file, &s.exit_file, &s.log_file, &s.oom_file, &s.console] {
                    w.str(text);
                }
                w.bool(s.terminal);
                w.bool(s.stdin);
                w.bool(s.stdin_once);
            }
            Self::Kill { container, signal } => {
                w.str(container);
                w.i32(*signal);
            }
            Self::Forget { container } | Self::ReopenLog { container } => w.str(container),
            Self::Resize { container, width, height } => {
                w.str(container);
                w.u32(*width);
                w.u32(*height);
            }
            Self::Exec(e) => {
                w.str(&e.container);
                w.str(&e.plan);
                w.strs(&e.argv);
                w.str(&e.pid_file);
                w.str(&e.console);
            }
            Self::Signal { signal } => w.i32(*signal),
            Self::Attach(a) => {
                w.str(&a.container);
                w.bool(a.stdin);
                w.bool(a.stdout);
                w.bool(a.stderr);
            }
        }
        w.finish()
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Subscribe => 1,
            Self::Start(_) => 2,
            Self::Kill { .. } => 3,
            Self::Forget { .. } => 4,
            Self::ReopenLog { .. } => 5,
            Self::Resize { .. } => 6,
            Self::Exec(_) => 7,
            Self::Signal { .. } => 8,
            Self::Attach(_) => 9,
            Self::Shutdown => 10,
        }
    }

    /// A frame's body.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(body);
        let r = &mut r;
        let request = match r.u8()? {
            1 => Self::Subscribe,
            2 => Self::Start(Start {
                container: r.str()?,
                plan: r.str()?,
                pid_namespace: match r.u8()? {
                    0 => PidNamespace::New,
                    1 => PidNamespace::Host,
                    2 => PidNamespace::Join(r.str()?),
                    tag => return Err(DecodeError::UnknownTag(tag)),
                },
                argv: r.strs()?,
                pid_file: r.str()?,
                exit_file: r.str()?,
                log_file: r.str()?,
                oom_file: r.str()?,
                console: r.str()?,
                terminal: r.bool()?,
                stdin: r.bool()?,
                stdin_once: r.bool()?,
            }),
            3 => Self::Kill { container: r.str()?, signal: r.i32()? },
            4 => Self::Forget { container: r.str()? },
            5 => Self::ReopenLog { container: r.str()? },
            6 => Self::Resize { container: r.str()?, width: r.u32()?, height: r.u32()? },
            7 => Self::Exec(Exec {
                container: r.str()?,
                plan: r.str()?,
                argv: r.strs()?,
                pid_file: r.str()?,
                console: r.str()?,
            }),
            8 => Self::Signal { signal: r.i32()? },
            9 => Self::Attach(Attach {
                container: r.str()?,
                stdin: r.bool()?,
                stdout: r.bool()?,
                stderr: r.bool()?,
            }),
            10 => Self::Shutdown,
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.end()?;
        Ok(request)
    }
}

impl Response {
    /// A whole frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done => Writer::frame(1).finish(),
            Self::Failed { message } => {
                let mut w = Writer::frame(2);
                w.str(message);
                w.finish()
            }
            Self::State { containers } => {
                let mut w = Writer::frame(3);
                w.u32(containers.len() as u32);
                for c in containers {
                    w.str(&c.container);
                    match &c.status {
                        Status::Starting => w.u8(0),
                        Status::Running { pid, at } => {
                            w.u8(1);
                            w.i32(*pid);
                            w.i64(*at);
                        }
                        Status::Exited { at, exit } => {
                            w.u8(2);
                            w.i64(*at);
                            exit.write(&mut w);
                        }
                    }
                }
                w.finish()
            }
            Self::Started { container, pid, at } => {
                let mut w = Writer::frame(4);
                w.str(container);
                w.i32(*pid);
                w.i64(*at);
                w.finish()
            }
            Self::Exited { container, exit } => {
                let mut w = Writer::frame(5);
                w.str(container);
                exit.write(&mut w);
                w.finish()
            }
        }
    }

    /// A frame's body.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(body);
        let r = &mut r;
        let response = match r.u8()? {
            1 => Self::Done,
            2 => Self::Failed { message: r.str()? },
            3 => Self::State {
                containers: r.list(|r| {
                    let container = r.str()?;
                    let status = match r.u8()? {
                        0 => Status::Starting,
                        1 => Status::Running { pid: r.i32()?, at: r.i64()? },
                        2 => Status::Exited { at: r.i64()?, exit: Exit::read(r)? },
                        tag => return Err(DecodeError::UnknownTag(tag)),
                    };
                    Ok(ContainerState { container, status })
                })?,
            },
            4 => Self::Started { container: r.str()?, pid: r.i32()?, at: r.i64()? },
            5 => Self::Exited { container: r.str()?, exit: Exit::read(r)? },
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.end()?;
        Ok(response)
    }
}
