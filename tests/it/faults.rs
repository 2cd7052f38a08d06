//! What must still work while something else does not, for how long, and what is lost: nothing that
//! was acknowledged. A file a fault; `cargo nextest run -E 'test(faults)'` runs them all.

mod bombs;
mod clocks;
mod cost;
mod crowd;
mod descriptors;
mod detour;
mod disk;
mod liars;
mod loris;
mod mortal;
mod network;
mod overload;
mod queens;
mod twins;
