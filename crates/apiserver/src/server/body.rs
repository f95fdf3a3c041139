//! Bodies of requests and answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, wherever it came from: a socket or a caller in this process.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A stream of pieces, such as a watch or a long list.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// Any body as that of a request.
pub fn boxed<B>(body: B) -> RequestBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// The body of an answer.
pub enum ResponseBody {
    /// Known as a whole: one piece, or several that need not be copied together.
    Pieces(VecDeque<Bytes>),
    /// Made while it is sent; with its length where that is known.
    Stream(ByteStream, Option<u64>),
    /// Relayed from elsewhere.
    Relayed(UnsyncBoxBody<Bytes, BoxError>),
}

impl ResponseBody {
    pub fn empty() -> Self {
        Self::Pieces(VecDeque::new())
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Pieces(VecDeque::from([bytes.into()]))
    }

    /// How many bytes it has, where that is known before it is sent.
    pub fn known_length(&self) -> Option<u64> {
        match self {
            Self::Pieces(pieces) => Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Self::Stream(_, length) => *length,
            Self::Relayed(_) => None,
        }
    }

    pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream), None)
    }

    /// The same; what is made while it is sent ends when something else does.
    pub fn until(self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        match self {
            Self::Stream(stream, None) => Self::Stream(Box::pin(stream.take_until(end)), None),
            other => other,
        }
    }

    /// The same, holding something until it has been sent, or nobody wants it any more.
    pub fn holding(self, held: impl Send + 'static) -> Self {
        match self {
            Self::Stream(stream, length) => {
                let holding = stream.inspect(move |_| {
                    let _ = &held;
                });
                Self::Stream(Box::pin(holding), length)
            }
            Self::Relayed(body) => {
                let holding = body.map_frame(move |frame| {
                    let _ = &held;
                    frame
                });
                Self::Relayed(holding.boxed_unsync())
            }
            // Nothing is waited for.
            pieces => pieces,
        }
    }

    /// Relays the body of another answer.
    pub fn relayed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::Relayed(body.map_err(Into::into).boxed_unsync())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Pieces(pieces) => Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
            Self::Stream(stream, _) => {
                stream.as_mut().poll_next(context).map(|next| next.map(|piece| piece.map(Frame::data)))
            }
            Self::Relayed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Pieces(pieces) => pieces.is_empty(),
            Self::Stream(..) => false,
            Self::Relayed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Pieces(pieces) => SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Self::Stream(_, Some(length)) => SizeHint::with_exact(*length),
            Self::Stream(_, None) => SizeHint::default(),
            Self::Relayed(body) => body.size_hint(),
        }
    }
}
