//! x
use crate::client::{Failure, Output};
/// x
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {}
/// x
pub async fn run(
    _: &DoctorArgs,
    _: impl Iterator<Item = (String, String)>,
    _: Output,
) -> Result<(), Failure> {
    Ok(())
}
