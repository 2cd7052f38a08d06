#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use crate::{
    http::{hive, queen},
    platform::secret::Secret,
};
use actix_web::{App, HttpResponse, ResponseError as _, dev::ServiceRequest, test as calls, web};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeSet, future::ready, rc::Rc};

const CLASSES: [Class; 5] =
    [Class::Open, Class::Read, Class::Infer, Class::Heartbeat, Class::Admin];
const ROLES: [Role; 3] = [Role::Admin, Role::Hive, Role::Inference];

fn rules(tokens: &[(Role, &str)], public_read: bool) -> Rules {
    Rules::new(tokens.iter().map(|(role, token)| (*role, Some(Secret::new(*token)))), public_read)
}

fn all_three(public_read: bool) -> Rules {
    rules(&[(Role::Admin, "a"), (Role::Hive, "h"), (Role::Inference, "i")], public_read)
}

#[test]
fn each_token_may_what_it_is_for_and_nothing_else() {
    let rules = all_three(false);
    let may = |token: &str| {
        let allowed = CLASSES.into_iter().filter(|class| {
            decide(*class, false, Credential::Token(token.as_bytes()), &rules) == Verdict::Allowed
        });
        allowed.collect::<Vec<_>>()
    };
    assert_eq!(may("a"), CLASSES);
    assert_eq!(may("h"), [Class::Open, Class::Read, Class::Heartbeat]);
    assert_eq!(may("i"), [Class::Open, Class::Read, Class::Infer]);
    assert_eq!(may("x"), [Class::Open]);
}

#[test]
fn a_role_without_a_token_of_its_own_is_nobodys() {
    let rules = rules(&[(Role::Inference, "i")], false);
    for shown in [Credential::Nothing, Credential::Token(b"i"), Credential::Token(b"")] {
        assert_ne!(decide(Class::Admin, true, shown, &rules), Verdict::Allowed, "{shown:?}");
    }
}

#[test]
fn a_tokens_beginning_and_a_token_with_zeros_after_it_are_others() {
    let rules = rules(&[(Role::Admin, "0123456789")], false);
    for shown in ["0123456789\0", "012345678", "0123456789 ", "", "0123456780"] {
        assert_eq!(rules.role_of(Credential::Token(shown.as_bytes())), None, "{shown:?}");
    }
    assert_eq!(rules.role_of(Credential::Token(b"0123456789")), Some(Role::Admin));
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(&CLASSES[..])
}

proptest! {
    #[test]
    fn nothing_but_the_open_is_open_to_who_shows_nothing_good(
        class in class(), reading: bool, public_read: bool, guess in "[b-z]{0,300}",
    ) {
        prop_assume!(guess != "h" && guess != "i");
        let open = class == Class::Open || (class == Class::Read && public_read);
        let rules = all_three(public_read);
        for shown in
            [Credential::Nothing, Credential::Unreadable, Credential::Token(guess.as_bytes())]
        {
            let want = if open { Verdict::Allowed } else { Verdict::Unauthenticated };
            prop_assert_eq!(decide(class, reading, shown, &rules), want);
        }
    }

    #[test]
    fn without_any_token_all_is_allowed(class in class(), reading: bool, guess in "\\PC{0,40}") {
        let shown = Credential::Token(guess.as_bytes());
        prop_assert_eq!(decide(class, reading, shown, &Rules::default()), Verdict::Allowed);
    }

    #[test]
    fn a_session_is_as_good_as_its_token_and_writes_only_from_our_own_page(
        class in class(), reading: bool, role in prop::sample::select(&ROLES[..]), from_own_page: bool,
    ) {
        let rules = all_three(false);
        let verdict =
            decide(class, reading, Credential::Session { role, from_own_page }, &rules);
        let by_token = match role {
            Role::Admin => "a",
            Role::Hive => "h",
            Role::Inference => "i",
        };
        let by_token = decide(class, reading, Credential::Token(by_token.as_bytes()), &rules);
        if reading || from_own_page || class == Class::Open {
            prop_assert_eq!(verdict, by_token);
        } else {
            prop_assert_eq!(verdict, Verdict::NotFromOwnPage);
        }
    }

    #[test]
    fn a_token_is_known_by_itself_alone(token in "[!-~]{1,256}", other in "[!-~]{1,256}") {
        let known = rules(&[(Role::Hive, &token)], false);
        prop_assert_eq!(known.role_of(Credential::Token(token.as_bytes())), Some(Role::Hive));
        let found = known.role_of(Credential::Token(other.as_bytes()));
        prop_assert_eq!(found.is_some(), token == other);
        let of_another = rules(&[(Role::Hive, &other)], false);
        prop_assert_eq!(format!("{known:?}"), format!("{of_another:?}"), "nothing of it is shown");
    }
}

/// All paths that a router really has: its map of them says so itself.
async fn routes_of(configure: fn(&mut web::ServiceConfig)) -> BTreeSet<String> {
    let seen = Rc::new(RefCell::new(String::new()));
    let noted = Rc::clone(&seen);
    let app = App::new().configure(configure).wrap_fn(move |request: ServiceRequest, _| {
        *noted.borrow_mut() = format!("{:?}", request.resource_map());
        ready(Ok::<_, actix_web::Error>(request.into_response(HttpResponse::Ok().finish())))
    });
    let app = calls::init_service(app).await;
    calls::call_service(&app, calls::TestRequest::get().uri("/").to_request()).await;
    let seen = seen.borrow();
    let patterns = seen.split("Single(\"").skip(1).filter_map(|rest| rest.split('"').next());
    patterns.filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

#[actix_web::test]
async fn every_route_of_either_role_has_a_class_and_every_class_a_route() {
    for (routes, access) in [
        (routes_of(queen::configure).await, queen::ACCESS),
        (routes_of(hive::configure).await, hive::ACCESS),
    ] {
        let named: BTreeSet<String> = access.iter().map(|access| access.path.to_owned()).collect();
        assert!(routes.len() > 5, "the router does not tell its routes: {routes:?}");
        assert_eq!(routes, named, "left: the router's paths, right: those of ACCESS");
        assert_eq!(named.len(), access.len(), "a path is named twice");
    }
}

#[actix_web::test]
async fn an_encoded_path_is_of_the_class_of_what_it_leads_to() {
    let own = origin::OwnNames {
        bind: "127.0.0.1:7833".parse().unwrap(),
        hostname: None,
        allowed: Vec::new(),
        tls: false,
    };
    let guard = Guard::new(GuardConfig { rules: all_three(false), own, access: queen::ACCESS });
    let status = |path: &str, token: &str| {
        let request = calls::TestRequest::get().uri(path);
        let request = request.insert_header(("authorization", format!("Bearer {token}")));
        guard
            .admit(&request.to_srv_request())
            .map_or_else(|error| error.status_code().as_u16(), |()| 200)
    };
    for path in ["/v1/hives/a/workers", "/v1/hives/a/work%65rs", "/v1/hives/a/workers/b/c/logs"] {
        assert_eq!((status(path, "i"), status(path, "a")), (403, 200), "{path}");
    }
    for path in ["/v1/nothing", "//v1/workers", "/v1/workers/", "/V1/workers", "/v1/../v1/workers"]
    {
        assert_eq!((status(path, "x"), status(path, "a")), (401, 404), "{path}");
    }
}
