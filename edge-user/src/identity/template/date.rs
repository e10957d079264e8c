//! Times in the layouts of Go's package time: the reference time, Mon Jan 2 15:04:05 2006, in the form that is wanted.
//! In UTC.

use crate::calendar::DateTime;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Years 0 to 9999: what four digits hold.
const SECONDS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

/// Seconds since 1970 in this layout.
pub(super) fn format(layout: &str, seconds: i64) -> Result<String, String> {
    if !SECONDS.contains(&seconds) {
        return Err(format!("{seconds}, expected seconds of a year with four digits"));
    }
    let (moment, mut out, mut rest) = (DateTime::of_unix(seconds), String::new(), layout);
    'layout: while let Some(next) = rest.chars().next() {
        for (element, write) in ELEMENTS {
            if let Some(after) = rest.strip_prefix(element) {
                out.push_str(&write(&moment));
                rest = after;
                continue 'layout;
            }
        }
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    Ok(out)
}

type Write = fn(&DateTime) -> String;

/// Longer ones before those that begin alike.
const ELEMENTS: [(&str, Write); 22] = [
    ("2006", |moment| format!("{:04}", moment.year)),
    ("January", |moment| month_name(moment).to_owned()),
    ("Jan", |moment| month_name(moment)[..3].to_owned()),
    ("Monday", |moment| day_name(moment).to_owned()),
    ("Mon", |moment| day_name(moment)[..3].to_owned()),
    ("MST", |_| "UTC".to_owned()),
    ("01", |moment| format!("{:02}", moment.month)),
    ("02", |moment| format!("{:02}", moment.day)),
    ("03", |moment| format!("{:02}", hour_of_half(moment))),
    ("04", |moment| format!("{:02}", moment.minute)),
    ("05", |moment| format!("{:02}", moment.second)),
    ("06", |moment| format!("{:02}", moment.year % 100)),
    ("15", |moment| format!("{:02}", moment.hour)),
    ("PM", |moment| if moment.hour < 12 { "AM" } else { "PM" }.to_owned()),
    ("Z07:00", |_| "Z".to_owned()),
    ("-07:00", |_| "+00:00".to_owned()),
    ("-0700", |_| "+0000".to_owned()),
    ("1", |moment| moment.month.to_string()),
    ("2", |moment| moment.day.to_string()),
    ("3", |moment| hour_of_half(moment).to_string()),
    ("4", |moment| moment.minute.to_string()),
    ("5", |moment| moment.second.to_string()),
];

fn month_name(moment: &DateTime) -> &'static str {
    MONTHS[(moment.month - 1) as usize]
}

fn day_name(moment: &DateTime) -> &'static str {
    DAYS[moment.weekday as usize]
}

fn hour_of_half(moment: &DateTime) -> i64 {
    (moment.hour + 11) % 12 + 1
}
