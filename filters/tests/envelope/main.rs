//! The encryption filter as a route meets it: what opens, what is refused and how, what is sealed.

mod refusals;
mod requests;
mod responses;
mod stage;
