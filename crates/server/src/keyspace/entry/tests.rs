use super::*;

fn str_of(entry: &Entry) -> Vec<u8> {
    match entry.get().value() {
        ValueRef::Str(s) => s.to_vec(),
        ValueRef::Big(s) => s.to_vec(),
        other => panic!("not a string: {other:?}"),
    }
}

#[test]
fn every_shape_keeps_key_value_and_expiry() {
    let long_key = vec![b'k'; 70_000];
    for key in
        [&b""[..], b"k", b"sixteen-bytes-ky", &long_key[..65_534], &long_key[..65_535], &long_key]
    {
        for len in [0, 1, 7, 8, 512, INLINE_MAX, INLINE_MAX + 1, 100_000] {
            for expiry in [None, Some(0), Some(u64::MAX)] {
                let value = vec![b'v'; len];
                let entry = Entry::new(key, NewValue::Str(&value), expiry);
                assert_eq!(entry.get().key(), key);
                assert_eq!(str_of(&entry), value);
                assert_eq!(entry.get().expires_at_ms(), expiry);
                assert_eq!(matches!(entry.get().value(), ValueRef::Big(_)), len > INLINE_MAX);
            }
        }
    }
}

#[test]
fn words_of_the_header_do_not_disturb_each_other() {
    let mut entry = Entry::new(b"key", NewValue::Int(-5), Some(77));
    entry.set_access(0xff_ffff);
    entry.set_state(0b1_1111);
    assert_eq!((entry.get().access(), entry.get().state()), (0xff_ffff, 31));
    entry.set_access(1);
    entry.set_state(0b0_1010);
    assert_eq!((entry.get().access(), entry.get().state()), (1, 10));
    assert!(matches!(entry.get().value(), ValueRef::Int(-5)));
    assert!(entry.overwrite_expiry(78));
    *entry.int_mut().unwrap() = i64::MIN;
    assert_eq!(entry.get().expires_at_ms(), Some(78));
    assert!(matches!(entry.get().value(), ValueRef::Int(i64::MIN)));
}

#[test]
fn overwriting_in_place_needs_the_same_length() {
    let mut entry = Entry::new(b"key", NewValue::Str(b"four"), None);
    assert!(!entry.overwrite_str(b"five5"));
    assert_eq!(str_of(&entry), b"four");
    assert!(entry.overwrite_str(b"FOUR"));
    assert_eq!(str_of(&entry), b"FOUR");
    assert!(!entry.overwrite_expiry(1));
}

#[test]
fn big_strings_are_shared_until_changed() {
    let mut entry = Entry::new(b"key", NewValue::Str(&[b'x'; INLINE_MAX + 1]), None);
    let ValueRef::Big(big) = entry.get().value() else { panic!("too long to be inline") };
    let held = Arc::clone(big);
    entry.big_mut().unwrap().push(b'y');
    assert_eq!(held.len(), INLINE_MAX + 1);
    assert_eq!(str_of(&entry).len(), INLINE_MAX + 2);
    let Value::Big(taken) = entry.take_value() else { panic!("still big") };
    assert_eq!((Arc::strong_count(&taken), Arc::strong_count(&held)), (1, 1));
    drop(entry);
    assert_eq!(taken.len(), INLINE_MAX + 2);
}

#[test]
fn another_expiry_keeps_everything_else() {
    for value in [&b"short"[..], &[b'z'; INLINE_MAX + 9]] {
        let mut entry = Entry::new(b"key", NewValue::Str(value), None);
        entry.set_access(9);
        entry.set_state(19);
        entry.set_expiry(Some(5));
        entry.set_expiry(Some(6));
        assert_eq!(entry.get().expires_at_ms(), Some(6));
        entry.set_expiry(None);
        assert_eq!(entry.get().expires_at_ms(), None);
        assert_eq!(str_of(&entry), value);
        let view = entry.get();
        assert_eq!((view.key(), view.access(), view.state()), (&b"key"[..], 9, 19));
    }
}

#[test]
fn slots_keep_tag_and_mark_apart_from_the_entry() {
    let mut slot = Slot::EMPTY;
    assert!(slot.is_empty() && !slot.mark() && !slot.matches(0));
    slot.set_mark();
    assert!(slot.is_empty() && slot.mark());
    slot.fill(Entry::new(b"key", NewValue::Str(b"v"), None), 0x7fff);
    assert!(slot.matches(0x7fff) && !slot.matches(0x7ffe) && slot.mark());
    slot.update(|e| *e = Entry::new(b"key", NewValue::Int(1), Some(2)));
    assert!(slot.matches(0x7fff) && slot.mark());
    assert_eq!(slot.entry().unwrap().expires_at_ms(), Some(2));
    let entry = slot.take().unwrap();
    assert_eq!(entry.get().key(), b"key");
    assert!(slot.is_empty() && slot.mark() && slot.take().is_none());
    slot.fill(entry, 0);
    assert!(slot.matches(0));
}

#[test]
fn a_panicking_update_leaves_the_entry_in_its_slot() {
    let mut slot = Slot::EMPTY;
    slot.fill(Entry::new(b"key", NewValue::Str(b"v"), None), 3);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        slot.update(|_| panic!("on purpose"));
    }));
    assert!(result.is_err());
    assert_eq!(slot.entry().unwrap().key(), b"key");
}

#[test]
fn short_keys_and_values_cost_one_small_allocation() {
    let entry = Entry::new(b"0123456789abcdef", NewValue::Str(b"8 bytes."), None);
    assert_eq!(entry.get().len_bytes(), 32);
}
