//! `ipBlocks`, `remoteIpBlocks` and `destination.ip`: addresses and networks.

use mesh_authz::request::{Lookup, Request};

use crate::support::{Attribute, Matched, Unmatched, Unreadable, get, ip};

type With = fn(Lookup<std::net::IpAddr>) -> Request;

fn attributes() -> [(Attribute, With); 3] {
    [
        (Attribute::field("source", "ipBlocks", "notIpBlocks").or_condition("source.ip"), |address| {
            get("/").source_ip(address).remote_ip(ip("192.0.2.1")).destination_ip(ip("192.0.2.2"))
        }),
        (Attribute::field("source", "remoteIpBlocks", "notRemoteIpBlocks").or_condition("remote.ip"), |address| {
            get("/").remote_ip(address).source_ip(ip("192.0.2.1")).destination_ip(ip("192.0.2.2"))
        }),
        (Attribute::condition("destination.ip"), |address| {
            get("/").destination_ip(address).source_ip(ip("192.0.2.1")).remote_ip(ip("192.0.2.3"))
        }),
    ]
}

#[test]
fn an_address_is_compared_with_an_address_or_a_network() {
    let rows = [
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.1.2.4", false),
        ("10.1.2.3/32", "10.1.2.3", true),
        ("10.1.2.3/32", "10.1.2.2", false),
        ("10.0.0.0/8", "10.255.255.255", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "9.255.255.255", false),
        ("10.128.0.0/9", "10.127.255.255", false),
        ("10.128.0.0/9", "10.128.0.0", true),
        ("192.168.1.0/31", "192.168.1.1", true),
        ("192.168.1.0/31", "192.168.1.2", false),
        ("0.0.0.0/0", "255.255.255.255", true),
        ("0.0.0.0/0", "0.0.0.0", true),
        ("0.0.0.0", "0.0.0.0", true),
        ("128.0.0.0/1", "127.255.255.255", false),
        ("128.0.0.0/1", "200.1.1.1", true),
        ("2001:db8::1", "2001:db8::1", true),
        ("2001:db8::1", "2001:db8::2", false),
        ("2001:DB8:0:0::1", "2001:db8::1", true),
        ("2001:db8::/32", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("2001:db8::/33", "2001:db8:8000::", false),
        ("2001:db8::1/128", "2001:db8::1", true),
        ("2001:db8::1/127", "2001:db8::2", false),
        ("::/0", "ff02::1", true),
        ("::/0", "::", true),
        ("8000::/1", "7fff::1", false),
    ];
    for (attribute, with) in attributes() {
        for (block, address, matched) in rows {
            println!("{block} {address}");
            attribute.check(&[block], &with(ip(address)), if matched { Matched } else { Unmatched });
        }
    }
}

#[test]
fn host_bits_of_a_network_do_not_count() {
    for (attribute, with) in attributes() {
        for (block, address) in
            [("10.1.2.3/8", "10.200.0.1"), ("255.255.255.255/1", "128.0.0.1"), ("2001:db8::ffff/32", "2001:db8:1::")]
        {
            attribute.check(&[block], &with(ip(address)), Matched);
        }
        attribute.check(&["10.1.2.3/8"], &with(ip("11.1.2.3")), Unmatched);
    }
}

#[test]
fn the_families_never_meet() {
    let rows = [
        ("10.0.0.0/8", "::ffff:10.0.0.1"),
        ("0.0.0.0/0", "::ffff:10.0.0.1"),
        ("0.0.0.0/0", "::1"),
        ("0.0.0.0/0", "::"),
        ("::/0", "10.0.0.1"),
        ("::/0", "0.0.0.0"),
        ("::ffff:0:0/96", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", "::ffff:10.0.0.1"),
        ("10.0.0.1", "::10.0.0.1"),
    ];
    for (attribute, with) in attributes() {
        for (block, address) in rows {
            attribute.check(&[block], &with(ip(address)), Unmatched);
        }
        attribute.check(&["::ffff:10.0.0.0/104"], &with(ip("::ffff:10.9.9.9")), Matched);
    }
}

#[test]
fn one_of_several_networks_is_enough() {
    for (attribute, with) in attributes() {
        let blocks = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"];
        for address in ["10.9.8.7", "2001:db8::9", "192.0.2.7"] {
            attribute.check(&blocks, &with(ip(address)), Matched);
        }
        attribute.check(&blocks, &with(ip("192.0.2.8")), Unmatched);
    }
}

#[test]
fn an_address_that_is_absent_is_in_no_network() {
    for (attribute, with) in attributes() {
        attribute.check(&["0.0.0.0/0", "::/0"], &with(Lookup::Absent), Unmatched);
    }
}

#[test]
fn an_address_that_cannot_be_read_counts_against_the_request() {
    for (attribute, with) in attributes() {
        attribute.check(&["10.0.0.0/8"], &with(Lookup::Unreadable), Unreadable);
        attribute.check(&["0.0.0.0/0", "::/0"], &with(Lookup::Unreadable), Unreadable);
    }
}
