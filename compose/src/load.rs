//! From files and variables to a [`Stack`](crate::model::Stack).

pub mod secret;
