use super::*;
use proptest::prelude::*;

const HARDWARE: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn client() -> Client {
    Client::new(Identity { hardware: HARDWARE, hostname: "node".to_owned() }, 42)
}

fn secs(seconds: u64) -> Instant {
    Duration::from_secs(seconds)
}

fn answer(client: &Client, kind: MessageType, address: [u8; 4], lease: u32) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(client.transaction, none, address.into(), none, none, &HARDWARE);
    message.set_opcode(Opcode::BootReply);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier([10, 0, 2, 2].into()));
    options.insert(DhcpOption::SubnetMask([255, 255, 255, 0].into()));
    options.insert(DhcpOption::AddressLeaseTime(lease));
    message
}

fn sent(effects: &[Effect]) -> Option<(MessageType, Via)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(message, via) => Some((message.opts().msg_type().unwrap(), *via)),
        _ => None,
    })
}

/// A client that has just been granted 10.0.2.15 for 1000 seconds, at 0.
fn bound() -> Client {
    let mut client = client();
    client.handle(secs(0), Event::LinkUp);
    let offer = answer(&client, MessageType::Offer, [10, 0, 2, 15], 1000);
    client.handle(secs(0), Event::Message(&offer));
    let ack = answer(&client, MessageType::Ack, [10, 0, 2, 15], 1000);
    let effects = client.handle(secs(0), Event::Message(&ack));
    assert!(
        matches!(&effects[..], [Effect::Configure(lease)] if lease.address == Ipv4Addr::from([10, 0, 2, 15]))
    );
    client
}

fn wake(client: &mut Client) -> (Instant, Vec<Effect>) {
    let now = client.deadline().unwrap();
    (now, client.handle(now, Event::Timer))
}

#[test]
fn four_messages_lead_to_an_address() {
    let mut client = client();
    let effects = client.handle(secs(1), Event::LinkUp);
    assert_eq!(sent(&effects), Some((MessageType::Discover, Via::RawBroadcast)));
    let offer = answer(&client, MessageType::Offer, [10, 0, 2, 15], 1000);
    let effects = client.handle(secs(1), Event::Message(&offer));
    let Effect::Send(request, Via::RawBroadcast) = &effects[0] else { panic!("{effects:?}") };
    let requested = request.opts().get(OptionCode::RequestedIpAddress);
    assert_eq!(requested, Some(&DhcpOption::RequestedIpAddress([10, 0, 2, 15].into())));
    assert!(
        request.opts().contains(OptionCode::ServerIdentifier)
            && request.opts().contains(OptionCode::Hostname)
    );
    let ack = answer(&client, MessageType::Ack, [10, 0, 2, 15], 1000);
    assert!(matches!(client.handle(secs(2), Event::Message(&ack))[..], [Effect::Configure(_)]));
    assert_eq!(client.deadline(), Some(secs(501)), "half of the lease, counted from the question");
}

#[test]
fn silence_is_asked_again_with_growing_pauses() {
    let mut client = client();
    client.handle(secs(0), Event::LinkUp);
    let mut last = secs(0);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let (now, effects) = wake(&mut client);
        assert_eq!(sent(&effects), Some((MessageType::Discover, Via::RawBroadcast)));
        pauses.push((now - last).as_secs_f64());
        last = now;
    }
    for (pause, expected) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0]) {
        assert!((expected * 0.75..=expected * 1.25).contains(pause), "{pauses:?}");
    }
}

#[test]
fn an_unanswered_request_goes_back_to_all_servers() {
    let mut client = client();
    client.handle(secs(0), Event::LinkUp);
    let offer = answer(&client, MessageType::Offer, [10, 0, 2, 15], 1000);
    client.handle(secs(0), Event::Message(&offer));
    for _ in 1..MAX_REQUESTS {
        assert_eq!(sent(&wake(&mut client).1).unwrap().0, MessageType::Request);
    }
    assert_eq!(sent(&wake(&mut client).1).unwrap().0, MessageType::Discover);
}

#[test]
fn a_lease_is_renewed_rebound_and_at_last_given_up() {
    let mut client = bound();
    let (now, effects) = wake(&mut client);
    assert_eq!(now, secs(500));
    assert_eq!(sent(&effects), Some((MessageType::Request, Via::Unicast([10, 0, 2, 2].into()))));
    let mut ways = Vec::new();
    let (end, effects) = loop {
        let (now, effects) = wake(&mut client);
        if matches!(effects.first(), Some(Effect::Release(_))) {
            break (now, effects);
        }
        ways.push((now, sent(&effects).unwrap().1));
    };
    assert_eq!(end, secs(1000));
    assert_eq!(sent(&effects).unwrap().0, MessageType::Discover);
    assert!(ways.iter().all(|(now, via)| (*via == Via::Broadcast) == (*now >= secs(875))), "{ways:?}");
    assert!(client.lease().is_none());
}

#[test]
fn a_renewed_lease_counts_anew() {
    let mut client = bound();
    wake(&mut client);
    let ack = answer(&client, MessageType::Ack, [10, 0, 2, 15], 1000);
    let effects = client.handle(secs(501), Event::Message(&ack));
    assert!(matches!(effects[..], [Effect::Configure(_)]));
    assert_eq!(client.deadline(), Some(secs(1000)));
}

#[test]
fn another_address_replaces_the_old_one() {
    let mut client = bound();
    wake(&mut client);
    let ack = answer(&client, MessageType::Ack, [10, 0, 2, 99], 1000);
    let effects = client.handle(secs(501), Event::Message(&ack));
    assert!(matches!(effects[..], [Effect::Release(_), Effect::Configure(_)]), "{effects:?}");
}

#[test]
fn a_refusal_takes_the_address_and_pauses() {
    let mut client = bound();
    wake(&mut client);
    let nak = answer(&client, MessageType::Nak, [0, 0, 0, 0], 0);
    let effects = client.handle(secs(501), Event::Message(&nak));
    assert!(matches!(effects[..], [Effect::Release(_)]));
    assert!(client.deadline().unwrap() >= secs(508));
    assert_eq!(sent(&wake(&mut client).1).unwrap().0, MessageType::Discover);
}

#[test]
fn a_plugged_cable_asks_whether_the_address_still_holds() {
    let mut client = bound();
    assert_eq!(client.handle(secs(10), Event::LinkDown), []);
    assert!(client.lease().is_some());
    let effects = client.handle(secs(20), Event::LinkUp);
    assert_eq!(sent(&effects), Some((MessageType::Request, Via::Broadcast)));
    assert!(client.deadline().unwrap() < secs(22), "and does not wait a minute for the second question");
}

#[test]
fn an_endless_lease_is_never_renewed() {
    let mut client = client();
    client.handle(secs(0), Event::LinkUp);
    for kind in [MessageType::Offer, MessageType::Ack] {
        let message = answer(&client, kind, [10, 0, 2, 15], u32::MAX);
        client.handle(secs(0), Event::Message(&message));
    }
    assert!(client.lease().is_some());
    assert_eq!(client.deadline(), None);
}

#[test]
fn messages_for_others_are_not_taken() {
    let mut client = client();
    client.handle(secs(0), Event::LinkUp);
    let good = answer(&client, MessageType::Offer, [10, 0, 2, 15], 1000);
    let mut other_transaction = good.clone();
    other_transaction.set_xid(good.xid().wrapping_add(1));
    let mut other_machine = good.clone();
    other_machine.set_chaddr(&[1; 6]);
    let mut question = good.clone();
    question.set_opcode(Opcode::BootRequest);
    for message in [other_transaction, other_machine, question] {
        assert_eq!(client.handle(secs(0), Event::Message(&message)), []);
    }
    assert!(!client.handle(secs(0), Event::Message(&good)).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Up,
    Down,
    Timer,
    Answer(u8, u8, u32),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Up),
        Just(Step::Down),
        Just(Step::Timer),
        (0_u8..4, 0_u8..3, prop_oneof![Just(0), Just(60), Just(5000), Just(u32::MAX)])
            .prop_map(|(a, b, c)| Step::Answer(a, b, c)),
        (0_u32..10_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: what is configured is what is leased, every address is released before another comes, a client with a
    /// carrier never falls asleep for good, and no timer makes it spin.
    #[test]
    fn random_histories_keep_the_link_and_the_lease_in_step(steps in proptest::collection::vec(step(), 0..80)) {
        let mut client = client();
        let mut now = secs(1);
        let mut configured: Option<Ipv4Addr> = None;
        let mut ever_up = false;
        for step in steps {
            let timed = matches!(step, Step::Timer | Step::Wait(_));
            let effects = match step {
                Step::Up => {
                    ever_up = true;
                    client.handle(now, Event::LinkUp)
                }
                Step::Down => {
                    ever_up = false;
                    client.handle(now, Event::LinkDown)
                }
                Step::Timer => {
                    now = now.max(client.deadline().unwrap_or(now));
                    client.handle(now, Event::Timer)
                }
                Step::Wait(millis) => {
                    now += Duration::from_millis(millis.into());
                    client.handle(now, Event::Timer)
                }
                Step::Answer(kind, host, lease) => {
                    let kinds = [MessageType::Offer, MessageType::Ack, MessageType::Nak, MessageType::Inform];
                    let message = answer(&client, kinds[usize::from(kind)], [10, 0, 2, host], lease);
                    client.handle(now, Event::Message(&message))
                }
            };
            for effect in effects {
                match effect {
                    Effect::Configure(lease) => {
                        prop_assert!(configured.is_none_or(|old| old == lease.address));
                        configured = Some(lease.address);
                    }
                    Effect::Release(lease) => {
                        prop_assert_eq!(configured, Some(lease.address));
                        configured = None;
                    }
                    Effect::Send(message, via) => {
                        prop_assert_eq!(message.ciaddr().is_unspecified(), via == Via::RawBroadcast);
                        prop_assert_eq!(configured.is_none(), via == Via::RawBroadcast);
                    }
                }
            }
            prop_assert_eq!(client.lease().map(|lease| lease.address), configured);
            let endless = client.lease().is_some_and(|lease| lease.seconds.is_none());
            prop_assert!(!ever_up || endless || client.deadline().is_some());
            if timed {
                prop_assert!(client.deadline().is_none_or(|deadline| deadline > now));
            }
        }
    }
}
