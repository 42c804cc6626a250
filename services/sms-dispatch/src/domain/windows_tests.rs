use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).expect("a time").to_utc()
}

fn state(code: &str) -> Clocks {
    let state = State::parse(code).expect("a state");
    Clocks::of(Some(state), Lada::parse("55").expect("a LADA"))
}

/// The common window of a day in UTC, found minute by minute.
fn window(clocks: Clocks, from: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let start = at(from);
    let minutes = (0..24 * 60).map(|minute| start + TimeDelta::minutes(minute));
    let open: Vec<_> = minutes.filter(|moment| clocks.is_open(Hours::default(), *moment)).collect();
    let (first, last) = (*open.first()?, *open.last()?);
    // In one piece.
    assert_eq!((last - first).num_minutes() + 1, open.len() as i64);
    Some((first, last + TimeDelta::minutes(1)))
}

#[test]
fn each_states_window_in_winter_and_in_the_summer_of_the_border() {
    // The day begins at 08:00 UTC: midnight in Tijuana in winter.
    for (clocks, winter, summer) in [
        (state("CDMX"), ("15:00", "02:00"), ("15:00", "02:00")),
        (state("YUC"), ("15:00", "02:00"), ("15:00", "02:00")),
        (state("QROO"), ("14:00", "01:00"), ("14:00", "01:00")),
        (state("BCS"), ("16:00", "03:00"), ("16:00", "03:00")),
        (state("SIN"), ("16:00", "03:00"), ("16:00", "03:00")),
        (state("SON"), ("16:00", "03:00"), ("16:00", "03:00")),
        (state("BC"), ("17:00", "04:00"), ("16:00", "03:00")),
        (state("NAY"), ("16:00", "02:00"), ("16:00", "02:00")),
        // Chihuahua UTC-6; Juárez -7 and -6; Ojinaga -6 and -5.
        (state("CHIH"), ("16:00", "02:00"), ("15:00", "01:00")),
        (state("NL"), ("15:00", "02:00"), ("15:00", "01:00")),
        (state("COAH"), ("15:00", "02:00"), ("15:00", "01:00")),
        (state("TAMPS"), ("15:00", "02:00"), ("15:00", "01:00")),
        (Clocks::Anywhere, ("17:00", "01:00"), ("16:00", "01:00")),
    ] {
        for (day, next, (from, until)) in
            [("2026-01-14", "2026-01-15", winter), ("2026-07-15", "2026-07-16", summer)]
        {
            let found = window(clocks, &format!("{day}T08:00:00Z")).expect("a window");
            let until_day = if until < "08:00" { next } else { day };
            let expected = (at(&format!("{day}T{from}:00Z")), at(&format!("{until_day}T{until}:00Z")));
            assert_eq!(found, expected, "{clocks:?} {day}");
            // The two edges, to the second.
            let second = TimeDelta::seconds(1);
            let open = |moment| clocks.is_open(Hours::default(), moment);
            assert!(!open(found.0 - second) && open(found.0) && open(found.1 - second) && !open(found.1));
            let night = at(&format!("{day}T09:30:00Z"));
            assert_eq!(clocks.opens(Hours::default(), night), Some(found.0));
            assert_eq!(clocks.closes(Hours::default(), found.0), Some(found.1));
            assert_eq!(clocks.opens(Hours::default(), found.0), Some(found.0));
            let next_day = clocks.opens(Hours::default(), found.1).expect("a next day");
            assert!(next_day > found.1 && next_day < found.1 + TimeDelta::hours(24));
        }
    }
}

#[test]
fn the_border_changes_its_clocks_with_the_united_states_and_nobody_else_does() {
    let hours = Hours::default();
    for (clocks, night, opens) in [
        // On 2026-03-08 at 02:00 and on 2026-11-01 at 02:00.
        (state("BC"), "2026-03-07T10:00:00Z", "2026-03-07T17:00:00Z"),
        (state("BC"), "2026-03-08T09:00:00Z", "2026-03-08T16:00:00Z"),
        (state("BC"), "2026-10-31T10:00:00Z", "2026-10-31T16:00:00Z"),
        (state("BC"), "2026-11-01T10:00:00Z", "2026-11-01T17:00:00Z"),
        (state("CHIH"), "2026-03-07T09:00:00Z", "2026-03-07T16:00:00Z"),
        (state("CHIH"), "2026-03-08T09:00:00Z", "2026-03-08T15:00:00Z"),
        (state("CHIH"), "2026-11-01T09:00:00Z", "2026-11-01T16:00:00Z"),
        (state("TAMPS"), "2026-03-08T07:00:00Z", "2026-03-08T15:00:00Z"),
        (state("CDMX"), "2026-04-05T07:00:00Z", "2026-04-05T15:00:00Z"),
        (state("SON"), "2026-03-08T09:00:00Z", "2026-03-08T16:00:00Z"),
        (Clocks::Anywhere, "2026-03-07T09:00:00Z", "2026-03-07T17:00:00Z"),
        (Clocks::Anywhere, "2026-03-08T09:00:00Z", "2026-03-08T16:00:00Z"),
    ] {
        assert_eq!(clocks.opens(hours, at(night)), Some(at(opens)), "{clocks:?} {night}");
    }
    // The last evening before the change: Matamoros is at UTC-6 still.
    assert_eq!(state("TAMPS").closes(hours, at("2026-03-07T20:00:00Z")), Some(at("2026-03-08T02:00:00Z")));
    assert_eq!(state("TAMPS").closes(hours, at("2026-03-08T20:00:00Z")), Some(at("2026-03-09T01:00:00Z")));
}

#[test]
fn hours_that_a_clock_jumps_over_or_shows_twice() {
    let tijuana = state("BC");
    let hours = Hours::parse("02:30", "03:30").expect("hours");
    // 02:00 PST is followed by 03:00 PDT at 10:00 UTC.
    assert_eq!(tijuana.opens(hours, at("2026-03-08T08:00:00Z")), Some(at("2026-03-08T10:00:00Z")));
    assert_eq!(tijuana.closes(hours, at("2026-03-08T10:00:00Z")), Some(at("2026-03-08T10:30:00Z")));
    // 01:30 comes at 08:30 UTC in PDT, and at 09:30 UTC in PST.
    let hours = Hours::parse("01:30", "02:30").expect("hours");
    assert_eq!(tijuana.opens(hours, at("2026-11-01T08:00:00Z")), Some(at("2026-11-01T08:30:00Z")));
    assert!(!tijuana.is_open(hours, at("2026-11-01T09:00:00Z")));
    assert_eq!(tijuana.opens(hours, at("2026-11-01T09:00:00Z")), Some(at("2026-11-01T09:30:00Z")));
}

#[test]
fn the_whole_day_never_closes() {
    let hours = Hours::parse("00:00", "24:00").expect("hours");
    let now = at("2026-03-08T06:59:59Z");
    for clocks in Clocks::ALL {
        assert_eq!(clocks.opens(hours, now), Some(now));
        assert_eq!(clocks.closes(hours, now), None);
    }
    let evening = Hours::parse("20:00", "24:00").expect("hours");
    let centre = Clocks::Centre;
    assert_eq!(centre.closes(evening, at("2026-01-15T03:00:00Z")), Some(at("2026-01-15T06:00:00Z")));
}

#[test]
fn zones_without_a_common_moment_never_open() {
    let hours = Hours::parse("09:00", "10:00").expect("hours");
    assert_eq!(Clocks::Anywhere.opens(hours, at("2026-01-15T03:00:00Z")), None);
    assert!(Clocks::Centre.opens(hours, at("2026-01-15T03:00:00Z")).is_some());
}

#[test]
fn the_state_decides_then_the_lada_then_all_zones() {
    let lada = |text| Lada::parse(text).expect("a LADA");
    assert_eq!(Clocks::of(State::parse("SON"), lada("998")), Clocks::Sonora);
    assert_eq!(Clocks::of(None, lada("998")), Clocks::Southeast);
    assert_eq!(Clocks::of(None, lada("612")), Clocks::Pacific);
    assert_eq!(Clocks::of(None, lada("656")), Clocks::Chihuahua);
    // Two states, and no geocoding.
    assert_eq!(Clocks::of(None, lada("867")), Clocks::Anywhere);
    assert_eq!(Clocks::of(None, lada("56")), Clocks::Anywhere);
}

#[test]
fn every_state_has_its_own_zone_among_its_clocks() {
    for state in State::all() {
        let clocks = Clocks::of(Some(state), Lada::parse("55").expect("a LADA"));
        let now = at("2026-07-15T12:00:00Z");
        let zone: Tz = state.zone().parse().expect("a zone");
        let shown = |zone: &Tz| now.with_timezone(zone).naive_local();
        assert!(clocks.zones().iter().any(|one| shown(one) == shown(&zone)), "{state:?}");
    }
    for clocks in Clocks::ALL {
        assert_eq!(Clocks::from_code(clocks.code()), Some(clocks));
        for zone in clocks.zones() {
            assert!(Clocks::Anywhere.zones().contains(zone), "{zone}");
        }
    }
}

#[test]
fn hours_are_read_as_people_write_them() {
    assert_eq!(Hours::parse("09:00", "20:00"), Some(Hours::default()));
    for (from, until) in
        [("9:00", "20:00"), ("20:00", "09:00"), ("09:00", "09:00"), ("09:60", "20:00"), ("09:00", "24:01")]
    {
        assert_eq!(Hours::parse(from, until), None, "{from} {until}");
    }
    let (one, other) = (Hours::parse("08:00", "12:00"), Hours::parse("10:00", "21:00"));
    let both = one.zip(other).and_then(|(one, other)| one.within(other));
    assert_eq!(both.map(Hours::minutes), Some((600, 720)));
}

proptest::proptest! {
    #[test]
    fn nothing_is_open_before_the_next_opening(
        seconds in 1_767_225_600_i64..1_800_000_000,
        code in 0_i16..9,
        from in 0_u16..1_000,
        length in 1_u16..440,
    ) {
        let clocks = Clocks::from_code(code).expect("a code");
        let hours = Hours::new(from, from + length).expect("hours");
        let now = DateTime::from_timestamp(seconds, 0).expect("a time");
        if let Some(opens) = clocks.opens(hours, now) {
            proptest::prop_assert!(clocks.is_open(hours, opens));
            for part in 1..40 {
                let before = now + (opens - now) * part / 40;
                proptest::prop_assert!(before == opens || opens == now || !clocks.is_open(hours, before));
            }
            let closes = clocks.closes(hours, opens).expect("it is no whole day");
            proptest::prop_assert!(!clocks.is_open(hours, closes));
            for part in 0..40 {
                let within = opens + (closes - opens) * part / 40;
                proptest::prop_assert!(clocks.is_open(hours, within));
            }
        }
    }
}
