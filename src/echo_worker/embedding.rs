//! `POST /v1/embeddings`: vectors that are the same for the same text, and mean nothing.

use super::{
    Engine,
    request::{self, EmbeddingRequest},
    words,
};
use crate::http::error::HttpError;
use actix_web::{
    HttpResponse,
    web::{Bytes, Data},
};
use serde_json::{Value, json};

/// Numbers in a vector.
const DIMENSIONS: usize = 8;

pub(super) async fn embeddings(
    engine: Data<Engine>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, HttpError> {
    let texts = request::parse::<EmbeddingRequest>(body)?.into_texts(&engine)?;
    let mut in_flight = engine.load.begin();
    let tokens: u64 = texts.iter().map(|text| words::count(text)).sum();
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| json!({"object": "embedding", "index": i, "embedding": vector(text)}))
        .collect();
    in_flight.finish();
    Ok(HttpResponse::Ok().json(json!({
        "object": "list",
        "model": engine.model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "note": "a stand-in: these vectors are hashes of the text and carry no meaning",
    })))
}

/// A unit vector from FNV-1a hashes of the text, one for each dimension.
fn vector(text: &str) -> [f64; DIMENSIONS] {
    let mut vector: [f64; DIMENSIONS] = std::array::from_fn(|dimension| {
        let seed = 0xcbf2_9ce4_8422_2325_u64 ^ dimension as u64;
        let hash = text
            .bytes()
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        // The high bits are the well mixed ones; half the range is negative.
        (hash >> 40) as f64 / f64::from(1 << 23) - 1.0
    });
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_length_one_and_depends_on_the_text_alone() {
        let first = vector("a bee");
        assert!((first.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(first, vector("a bee"));
        assert_ne!(first, vector("two bees"));
    }
}
