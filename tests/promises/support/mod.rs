//! The other sides of the gateway: whoever starts it, its clients, its upstreams.

pub mod backend;
pub mod cert;
pub mod credential;
pub mod curl;
pub mod gateway;
pub mod h2;
pub mod lines;
pub mod messages;
pub mod moto;
pub mod nghttp;
pub mod node;
pub mod postgres;
pub mod problem;
pub mod python;
pub mod redis;
pub mod socket;
pub mod tls;
pub mod tool;
pub mod upstream;
pub mod wait;
pub mod wire;

pub use self::{
    backend::Backend,
    credential::{Token, token},
    curl::Curl,
    gateway::{Gateway, Setup},
    moto::Moto,
    postgres::Postgres,
    problem::expect_problem,
    redis::Redis,
    socket::Socket,
    upstream::{Flow, Upstream},
    wait::until,
    wire::{Answer, Wire},
};
