//! A queen, built.

use super::{Front, Server, StartupError, Vital, change_authorities, http_threads, serve};
use crate::{
    actors::{
        fleet::FreshnessLimits,
        placement::{Placement, PlacementConfig},
        registry::RegistryConfig,
    },
    http::{
        auth::{GuardConfig, Role, Rules, origin::OwnNames},
        queen::{ACCESS, GatewayConfig, KnownHives, QueenCounters, QueenState, configure},
    },
    platform::tls::Authorities,
    settings::QueenSettings,
};
use actix::Arbiter;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

/// A few threads serve any number of dashboards.
const HTTP_THREADS_MAX: usize = 8;

pub(super) struct Queen {
    state: QueenState,
    server: Server,
    arbiter: Arbiter,
    authorities: Option<Authorities>,
}

impl Queen {
    pub(super) fn start(
        settings: QueenSettings,
        listener: TcpListener,
        vital: &Vital,
    ) -> Result<Self, StartupError> {
        let address = listener.local_addr().unwrap_or(settings.bind);
        let arbiter = Arbiter::new();
        let config = RegistryConfig {
            limits: FreshnessLimits {
                degraded_after: settings.degraded_after,
                down_after: settings.down_after,
                evict_after: settings.evict_after,
            },
            history: settings.history,
            history_bytes: settings.history_bytes,
            queen_heartbeat_interval: settings.queen_heartbeat_interval,
        };
        let state = {
            let known = known_hives(&settings);
            let placement = Placement::new(PlacementConfig {
                limits: config.limits,
                queue_limit: settings.gateway.queue_limit,
            });
            let gateway = GatewayConfig {
                queue_timeout: settings.gateway.queue_timeout,
                first_byte_timeout: settings.gateway.first_byte_timeout,
                idle_timeout: settings.gateway.idle_timeout,
            };
            let counters = QueenCounters::new()
                .map_err(|error| StartupError::System("count", io::Error::other(error)))?;
            let (arbiter, watch) = (arbiter.handle(), |name| vital.watch(name));
            QueenState::start(config, placement, gateway, known, counters, &arbiter, watch)
        };
        let front = front_of(&settings, address);
        let threads = http_threads(HTTP_THREADS_MAX);
        let server = serve(listener, threads, state.clone(), front, configure)
            .map_err(|source| StartupError::System("serve HTTP", source))?;
        tracing::info!(role = "queen", addr = %address, "listening");
        Ok(Self { state, server, arbiter, authorities: settings.authorities })
    }

    /// Takes the tokens, the certificate, the list of hives and whom to trust.
    pub(super) fn reload(&self, settings: QueenSettings) {
        change_authorities(self.authorities.as_ref(), settings.authorities.as_ref());
        let known = KnownHives { authorities: self.authorities.clone(), ..known_hives(&settings) };
        self.state.known_hives.store(Arc::new(known));
        self.server.front.reload(rules_of(&settings), settings.tls);
    }

    /// Ends the streams, takes nothing new and answers what is in flight. Heartbeats are still taken.
    pub(super) async fn finish(&self) {
        self.state.close_streams().await;
        self.server.finish().await;
    }

    /// Streams first: an open one would hold up the end of the server.
    pub(super) async fn stop(self) {
        self.state.close_streams().await;
        self.server.stop().await;
        self.arbiter.stop();
    }
}

fn known_hives(settings: &QueenSettings) -> KnownHives {
    KnownHives {
        listed: settings.hives.clone(),
        local_too: !rules_of(settings).required(),
        authorities: settings.authorities.clone(),
    }
}

fn front_of(settings: &QueenSettings, bind: SocketAddr) -> Front {
    let own = OwnNames {
        bind,
        hostname: None,
        allowed: settings.allowed_hosts.clone(),
        tls: settings.tls.is_some(),
    };
    let guard = GuardConfig { rules: rules_of(settings), own, access: ACCESS };
    Front::new(guard, settings.tls.clone())
}

fn rules_of(settings: &QueenSettings) -> Rules {
    let tokens = settings.tokens.clone();
    let roles = [
        (Role::Admin, tokens.admin),
        (Role::Hive, tokens.hive),
        (Role::Inference, tokens.inference),
    ];
    Rules::new(roles, settings.public_read)
}
