//! Generated from `wit/`: the contract's types, the host's functions and the export macro. Nothing here is written by hand.

#![allow(unsafe_code, unreachable_pub, clippy::all, reason = "generated code")]

wit_bindgen::generate!({
    path: "../wit",
    world: "task-runner",
    additional_derives: [PartialEq],
    pub_export_macro: true,
});
