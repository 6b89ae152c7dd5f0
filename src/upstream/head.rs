//! The head of a response, and how long that makes its body (RFC 9112). Where two lengths could be read it is no response: what
//! followed it would be taken for the answer to somebody else.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;

use crate::http1::Chunks;

const MAX_FIELDS: usize = 256;

/// How far a response reaches beyond its head.
pub(super) enum Body {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Done,
}

/// What of a body there is.
pub(super) enum Part {
    Piece(Bytes),
    /// More must be read first.
    Wanting,
    End,
}

impl Body {
    /// The next part of it, taken off `buffer`.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Part, &'static str> {
        match self {
            Self::Done => return Ok(Part::End),
            _ if buffer.is_empty() => {}
            Self::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= take as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                return Ok(Part::Piece(buffer.split_to(take).freeze()));
            }
            Self::UntilClose => return Ok(Part::Piece(buffer.split().freeze())),
            Self::Chunked(chunks) => match chunks.decode(buffer)? {
                Some(data) => return Ok(Part::Piece(data)),
                None if chunks.is_done() => {
                    *self = Self::Done;
                    return Ok(Part::End);
                }
                None => {}
            },
        }
        Ok(Part::Wanting)
    }

    /// The server has closed, while more was wanted.
    pub(super) fn close(&mut self) -> Result<(), &'static str> {
        match self {
            Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            _ => Err("the server closed within its answer"),
        }
    }

    /// What is left of it, where the server said so.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Done => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

/// A complete head and its length. None: more bytes are needed.
pub(super) fn parse(buffer: &[u8]) -> Result<Option<(ResponseHeader, usize)>, String> {
    let mut fields = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let len = match parser.parse_response_with_uninit_headers(&mut response, buffer, &mut fields) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        // The bytes may hold a secret; the error does not.
        Err(why) => return Err(format!("the answer is no HTTP/1: {why}")),
    };
    let unfit = |_| "the answer has a field that is none".to_owned();
    let mut head =
        ResponseHeader::build(response.code.unwrap_or_default(), Some(response.headers.len())).map_err(unfit)?;
    head.set_version(if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 });
    for field in response.headers.iter() {
        head.append_header(field.name.to_owned(), field.value).map_err(unfit)?;
    }
    Ok(Some((head, len)))
}

/// RFC 9112, section 6.3, without its leniences. Whether the connection lives on stands beside.
pub(super) fn framing(head: &ResponseHeader, method: &Method) -> Result<(Body, bool), &'static str> {
    let says = |word: &str| {
        let values = head.headers.get_all(header::CONNECTION).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    let keep = if head.version == Version::HTTP_10 { says("keep-alive") } else { !says("close") };
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() {
        return Err("the answer has two lengths");
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok((Body::UntilClose, false));
    }
    if *method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok((Body::Done, keep));
    }
    match (length, coding) {
        // RFC 9112, section 6.1: faulty, since a server of that version knows no coding.
        (_, Some(_)) if head.version == Version::HTTP_10 => Err("the answer is HTTP/1.0 with Transfer-Encoding"),
        (Some(_), Some(_)) => Err("the answer has both Content-Length and Transfer-Encoding"),
        (None, Some(coding)) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok((Body::Chunked(Chunks::default()), keep))
        }
        (None, Some(_)) => Err("the answer has a Transfer-Encoding other than chunked"),
        (Some(length), None) => {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse().ok()) {
                Some(0) => Ok((Body::Done, keep)),
                Some(length) => Ok((Body::Length(length), keep)),
                None => Err("the answer has a Content-Length that is no number"),
            }
        }
        (None, None) => Ok((Body::UntilClose, false)),
    }
}

/// Whether the length of a response can be read in one way only.
pub(crate) fn check_framing(head: &ResponseHeader, method: &Method) -> Result<(), &'static str> {
    framing(head, method).map(drop)
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use http::{HeaderMap, Method};

    /// How long a response is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Body {
        Length(u64),
        Chunked,
        UntilClose,
        Done,
    }

    /// The length, status and fields of a response head, and its framing where that is clear. None: more bytes are needed.
    #[allow(clippy::type_complexity)]
    pub fn response_head(
        bytes: &[u8],
        method: &Method,
    ) -> Result<Option<(usize, u16, HeaderMap, Result<(Body, bool), &'static str>)>, String> {
        let Some((head, len)) = super::parse(bytes)? else { return Ok(None) };
        let framed = super::framing(&head, method).map(|(body, keep)| {
            let body = match body {
                super::Body::Length(length) => Body::Length(length),
                super::Body::Chunked(_) => Body::Chunked,
                super::Body::UntilClose => Body::UntilClose,
                super::Body::Done => Body::Done,
            };
            (body, keep)
        });
        Ok(Some((len, head.status.as_u16(), head.headers.clone(), framed)))
    }
}
