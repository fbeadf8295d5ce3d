//! What wasmtime's `bindgen!` makes of the contract in `wit/`. Generated code only: nothing else belongs here, and
//! nothing outside the crate names this module.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "task-runner",
    imports: { default: async | trappable },
    exports: { default: async },
    additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
});
