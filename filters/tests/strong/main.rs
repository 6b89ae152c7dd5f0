//! Strong profiles as a route meets them: what opens, what is refused and how, what is sealed.

mod jwe;
mod jwe_refused;
mod jwe_rsa;
mod stage;
