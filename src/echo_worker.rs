//! A small stand-in for an inference server.
