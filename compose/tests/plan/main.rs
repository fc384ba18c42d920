//! Plans, carried out on a model of an Engine.

mod adopt;
mod anything;
mod away;
mod changes;
mod hands;
mod images;
mod orders;
mod requests;
mod world;
