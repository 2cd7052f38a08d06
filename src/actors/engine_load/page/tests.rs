//! Pages as engines write them, as nobody should, and as properties.

use super::*;
use proptest::prelude::*;

fn load(running: u64, waiting: u64, kv_cache_pct: Option<f64>) -> EngineLoad {
    EngineLoad { running: Some(running), waiting: Some(waiting), kv_cache_pct }
}

#[test]
fn each_engine_is_read_by_its_own_names() {
    let vllm = "# HELP vllm:num_requests_running Number of requests in model execution batches.\n\
        # TYPE vllm:num_requests_running gauge\n\
        vllm:num_requests_running{engine=\"0\",model_name=\"Qwen/Qwen3-8B\"} 3.0\n\
        vllm:num_requests_waiting{engine=\"0\",model_name=\"Qwen/Qwen3-8B\"} 2.0\n\
        vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 9.0\n\
        vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"Qwen/Qwen3-8B\"} 0.25\n";
    assert_eq!(read(vllm.as_bytes()), load(3, 2, Some(25.0)));
    let older = "vllm:num_requests_running 1.0\nvllm:num_requests_waiting 0.0\n\
        vllm:gpu_cache_usage_perc 0.5\nvllm:cpu_cache_usage_perc 0.75\n";
    assert_eq!(read(older.as_bytes()), load(1, 0, Some(50.0)));
    let both = "vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.5\n";
    assert_eq!(read(both.as_bytes()).kv_cache_pct, Some(50.0));
    let llama = "llamacpp:requests_processing 4\r\nllamacpp:requests_deferred 7\r\n\
        llamacpp:kv_cache_usage_ratio 1\r\n";
    assert_eq!(read(llama.as_bytes()), load(4, 7, Some(100.0)));
    let sglang = "sglang:num_running_reqs{model_name=\"m\"} 161.0\n\
        sglang:num_queue_reqs{model_name=\"m\"} 2826.0\nsglang:token_usage{model_name=\"m\"} 0.125\n";
    assert_eq!(read(sglang.as_bytes()), load(161, 2826, Some(12.5)));
    let tgi = "tgi_batch_current_size 8\ntgi_queue_size 1\ntgi_batch_current_max_tokens 900\n";
    assert_eq!(read(tgi.as_bytes()), load(8, 1, None));
}

#[test]
fn of_several_series_counts_are_summed_and_shares_averaged() {
    let page = "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_running{engine=\"1\"} 4\n\
        vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.75\n";
    let expected = EngineLoad { running: Some(7), waiting: None, kv_cache_pct: Some(50.0) };
    assert_eq!(read(page.as_bytes()), expected);
}

#[test]
fn labels_may_hold_what_looks_like_the_end_and_a_timestamp_may_follow() {
    for line in [
        r#"tgi_queue_size{a="x y} 9",b="\"} 8 \\"} 5 1700000000000"#,
        "\ttgi_queue_size \t{ a=\"\" , } 5\t-1",
        "tgi_queue_size{} 5e0",
        "tgi_queue_size 5 1700000000.125\r",
    ] {
        assert_eq!(read(line.as_bytes()).waiting, Some(5), "{line}");
    }
}

#[test]
fn what_no_gauge_can_be_is_passed_over() {
    for value in ["NaN", "+Inf", "-Inf", "-1", "1e999", "", "five", "5 five", "5 1 1", "{5", "0x5"]
    {
        let page =
            format!("tgi_queue_size {value}\nsglang:token_usage {value}\ntgi_queue_size {value}");
        assert_eq!(read(page.as_bytes()), EngineLoad::default(), "{value}");
    }
    for line in
        ["tgi_queue_size", "tgi_queue_size{a=\"} 5", "# tgi_queue_size 5", "xtgi_queue_size 5"]
    {
        assert_eq!(read(line.as_bytes()), EngineLoad::default(), "{line}");
    }
    let beside = "tgi_queue_size{a=\"1\"} NaN\ntgi_queue_size{a=\"2\"} 3\nsglang:token_usage 7.5\n";
    let expected = EngineLoad { running: None, waiting: Some(3), kv_cache_pct: Some(100.0) };
    assert_eq!(read(beside.as_bytes()), expected);
    let huge = "tgi_queue_size 1e308\ntgi_queue_size 1e308\n".repeat(2);
    assert_eq!(read(huge.as_bytes()).waiting, Some(1 << 48));
}

proptest! {
    #[test]
    fn no_bytes_panic(page in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&page);
    }

    #[test]
    fn no_line_of_a_known_name_panics_or_leaves_its_range(
        rest in "[ {}\"\\\\=,a0-9.eE+\\-\t\n]{0,60}", name in prop::sample::select(KV_CACHE.to_vec()),
    ) {
        let pct = read(format!("{name}{rest}").as_bytes()).kv_cache_pct;
        prop_assert!(pct.is_none_or(|pct| (0.0..=100.0).contains(&pct)), "{pct:?}");
    }

    #[test]
    fn a_page_written_with_values_reads_back(
        engine in 0_usize..4, running in 0_u64..1 << 40, waiting in 0_u64..1 << 40,
        share in 0.0_f64..=1.0, label in "[^\n\"\\\\]{0,20}", others in "[a-z_]{1,9}",
    ) {
        let page = format!(
            "# HELP {others} {label}\n{others} 1\n{}{{l=\"{label}\"}} {running}\n{others}{{}} NaN\n\
             {} {waiting} 17\n{}{{a=\"\\\"{label}\",}} {share}",
            RUNNING[engine], WAITING[engine], KV_CACHE[engine],
        );
        prop_assert_eq!(read(page.as_bytes()), load(running, waiting, Some(share * 100.0)));
    }
}

#[test]
fn fuzz_engine_page() {
    crate::fuzz::fuzz("engine-page", |bytes| {
        let load = read(bytes);
        let counts = [load.running, load.waiting];
        assert!(counts.into_iter().flatten().all(|count| count <= COUNT_MAX as u64));
        assert!(load.kv_cache_pct.is_none_or(|percent| (0.0..=100.0).contains(&percent)));
    });
}
