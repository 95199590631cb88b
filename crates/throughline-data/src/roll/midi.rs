//! Piano rolls from Standard MIDI Files, and back. The bytes are parsed and written by `midly`.

use std::collections::HashMap;
use std::path::Path;

use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, TrackEvent, TrackEventKind};

use super::{PianoRoll, Pitches};
use crate::error::{Error, Result};

/// The most steps of a piece: 16 MiB of steps.
const MOST_STEPS: u64 = 1 << 20;
/// The channel of drums, channel 10 counted from 1.
const DRUMS: u8 = 9;
const HINT: &str = "export the piece again, or leave it out";

/// A piece that was read from a MIDI file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// From the step of the first note to the step where the last one ends.
    pub roll: PianoRoll,
    /// Notes on the channel of drums, which are left out.
    pub drums: usize,
}

/// A note in ticks from the beginning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    pitch: u8,
    on: u64,
    off: u64,
}

/// Reads a MIDI file, all tracks and channels but that of drums together, in steps of 1 / `steps_per_beat` of a quarter
/// note.
///
/// Beginning and end of a note are rounded to the nearest step, and a note sounds for at least one step. Tempo does not
/// matter, since steps are parts of a beat. Velocity, instruments and pedals are not read.
pub(super) fn read(path: &Path, bytes: &[u8], steps_per_beat: u32) -> Result<Piece> {
    let damaged = |error: midly::Error| Error::malformed(path, None, "a Standard MIDI File", error.to_string(), HINT);
    // After its name the header has its length, the format, the number of tracks and the time division, which is negative
    // for SMPTE.
    let division = bytes.strip_prefix(b"MThd").and_then(|header| header.get(8..10));
    if division.is_some_and(|division| division[0] >= 0x80) {
        let hint = "export the piece with ticks per quarter note";
        return Err(Error::malformed(path, None, "time in beats", "time in seconds (SMPTE)", hint));
    }
    if division.is_none() {
        return Err(Error::malformed(path, None, "a Standard MIDI File", "other bytes", HINT));
    }
    let (header, tracks) = midly::parse(bytes).map_err(damaged)?;
    let Timing::Metrical(ticks) = header.timing else { unreachable!("SMPTE is refused above") };
    let ticks_per_beat = u64::from(ticks.as_int());
    if ticks_per_beat == 0 {
        return Err(Error::malformed(path, None, "ticks in a beat", "none", HINT));
    }
    if header.format == Format::Sequential {
        let hint = "save each of its pieces as a file";
        return Err(Error::malformed(path, None, "one piece (MIDI format 0 or 1)", "several (format 2)", hint));
    }
    let (mut notes, mut drums) = (Vec::new(), 0);
    for track in tracks {
        let mut time = 0_u64;
        // Where each note that sounds began, by channel and pitch.
        let mut sounding = HashMap::<(u8, u8), u64>::new();
        for event in track.map_err(damaged)? {
            let TrackEvent { delta, kind } = event.map_err(damaged)?;
            time += u64::from(delta.as_int());
            let TrackEventKind::Midi { channel, message } = kind else { continue };
            let (pitch, begins) = match message {
                // A note that begins with velocity 0 ends.
                MidiMessage::NoteOn { key, vel } => (key.as_int(), vel.as_int() > 0),
                MidiMessage::NoteOff { key, .. } => (key.as_int(), false),
                _ => continue,
            };
            if channel.as_int() == DRUMS {
                drums += usize::from(begins);
                continue;
            }
            let voice = (channel.as_int(), pitch);
            if let Some(on) = sounding.remove(&voice) {
                notes.push(Note { pitch, on, off: time });
            }
            if begins {
                sounding.insert(voice, time);
            }
        }
        // What nobody ended ends with its track.
        notes.extend(sounding.into_iter().map(|((_, pitch), on)| Note { pitch, on, off: time }));
    }
    let roll = quantised(&mut notes, ticks_per_beat, steps_per_beat).map_err(|steps| {
        let expected = format!("a piece of at most {MOST_STEPS} steps");
        Error::malformed(path, None, expected, steps.to_string(), "cut it, or make data.steps_per_beat smaller")
    })?;
    if roll.is_empty() {
        let expected = "at least one note".to_owned();
        let hint = if drums > 0 { "it has drums alone, which are left out" } else { "leave it out" };
        return Err(Error::Empty { path: path.into(), expected, hint: hint.to_owned() });
    }
    Ok(Piece { roll, drums })
}

/// The roll of `notes`, or how many steps it would have if they are too many.
fn quantised(notes: &mut [Note], ticks_per_beat: u64, steps_per_beat: u32) -> std::result::Result<PianoRoll, u64> {
    // The nearest step. Times are below 2^28 ticks for each of fewer than 2^32 events, so this does not overflow.
    let step = |ticks: u64| {
        let steps = 2 * u128::from(ticks) * u128::from(steps_per_beat) + u128::from(ticks_per_beat);
        (steps / (2 * u128::from(ticks_per_beat))) as u64
    };
    let steps_of = |note: &Note| (step(note.on), step(note.off).max(step(note.on) + 1));
    let first = notes.iter().map(|note| steps_of(note).0).min().unwrap_or(0);
    let end = notes.iter().map(|note| steps_of(note).1).max().unwrap_or(0);
    let length = end - first;
    if length > MOST_STEPS {
        return Err(length);
    }
    let mut roll = vec![Pitches::default(); length as usize];
    notes.sort_unstable();
    // Notes of one pitch in order of their beginning: no step is written twice, however many of them overlap.
    let (mut pitch, mut written) = (0, first);
    for note in notes {
        if note.pitch != pitch {
            (pitch, written) = (note.pitch, first);
        }
        let (on, off) = steps_of(note);
        for step in on.max(written)..off {
            roll[(step - first) as usize].insert(pitch);
        }
        written = written.max(off);
    }
    Ok(roll)
}

/// A roll as a MIDI file of one track at 120 beats a minute: a piano on which a pitch of several steps in a row is struck
/// once and held.
///
/// # Panics
/// If `steps_per_beat` is not from 1 to 480.
pub fn piano_roll_to_midi(roll: &[Pitches], steps_per_beat: u32) -> Vec<u8> {
    const TICKS_PER_BEAT: u32 = 480;
    const MICROSECONDS_PER_BEAT: u32 = 500_000;
    const VELOCITY: u8 = 80;
    assert!((1..=TICKS_PER_BEAT).contains(&steps_per_beat), "1 to {TICKS_PER_BEAT} steps in a beat: {steps_per_beat}");
    let ticks_per_step = TICKS_PER_BEAT / steps_per_beat;
    let timing = Timing::Metrical(u15::new((ticks_per_step * steps_per_beat) as u16));
    let tempo = TrackEventKind::Meta(MetaMessage::Tempo(u24::new(MICROSECONDS_PER_BEAT)));
    let mut track = vec![TrackEvent { delta: u28::new(0), kind: tempo }];
    let mut waited = 0;
    let mut push = |waited: &mut u32, kind| track.push(TrackEvent { delta: u28::new(std::mem::take(waited)), kind });
    let note = |message| TrackEventKind::Midi { channel: u4::new(0), message };
    let mut sounding = Pitches::default();
    // A silent step after the last one ends what sounds.
    for &step in roll.iter().chain(&[Pitches::default()]) {
        for pitch in sounding.without(step).iter() {
            let (key, vel) = (u7::new(pitch), u7::new(0));
            push(&mut waited, note(MidiMessage::NoteOff { key, vel }));
        }
        for pitch in step.without(sounding).iter() {
            let (key, vel) = (u7::new(pitch), u7::new(VELOCITY));
            push(&mut waited, note(MidiMessage::NoteOn { key, vel }));
        }
        sounding = step;
        waited += ticks_per_step;
    }
    waited -= ticks_per_step;
    push(&mut waited, TrackEventKind::Meta(MetaMessage::EndOfTrack));
    let smf = Smf { header: Header::new(Format::SingleTrack, timing), tracks: vec![track] };
    let mut bytes = Vec::new();
    smf.write(&mut bytes).expect("a vector takes all that is written");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(roll: &[Pitches]) -> Vec<Vec<u8>> {
        roll.iter().map(|step| step.iter().collect()).collect()
    }

    /// A variable-length quantity.
    fn vlq(mut value: u32) -> Vec<u8> {
        let mut bytes = vec![(value & 127) as u8];
        while value > 127 {
            value >>= 7;
            bytes.insert(0, (value & 127) as u8 | 128);
        }
        bytes
    }

    /// A file, byte by byte: tracks of (ticks since the event before, event).
    fn file(format: u8, division: u16, tracks: &[&[(u32, &[u8])]]) -> Vec<u8> {
        let [high, low] = division.to_be_bytes();
        let mut bytes = [b"MThd", &[0, 0, 0, 6, 0, format, 0, tracks.len() as u8, high, low][..]].concat();
        for track in tracks {
            let mut body = Vec::new();
            for (delta, event) in *track {
                body.extend(vlq(*delta));
                body.extend(*event);
            }
            body.extend([0, 0xff, 0x2f, 0]);
            bytes.extend(b"MTrk");
            bytes.extend((body.len() as u32).to_be_bytes());
            bytes.extend(body);
        }
        bytes
    }

    fn read_bytes(bytes: &[u8], steps_per_beat: u32) -> Result<Piece> {
        read(Path::new("a.mid"), bytes, steps_per_beat)
    }

    #[test]
    fn tracks_and_channels_sound_together_without_drums() {
        let melody: &[(u32, &[u8])] = &[
            // Silence first; a tempo in mid-piece; running status; velocity 0.
            (480, &[0x90, 60, 90]),
            (120, &[62, 90]),
            (0, &[60, 0]),
            (0, &[0xff, 0x51, 3, 1, 2, 3]),
            (240, &[0x80, 62, 0]),
        ];
        let chord: &[(u32, &[u8])] =
            &[(480, &[0x91, 40, 1]), (0, &[0x99, 35, 99]), (120, &[0x99, 35, 0]), (115, &[0x91, 40, 0])];
        let piece = read_bytes(&file(1, 480, &[melody, chord]), 4).unwrap();
        assert_eq!(steps(&piece.roll), [vec![40, 60], vec![40, 62], vec![62]]);
        assert_eq!(piece.drums, 1);
        assert_eq!(steps(&read_bytes(&file(1, 480, &[melody, chord]), 1).unwrap().roll), [[40, 60, 62]]);
    }

    #[test]
    fn notes_that_are_short_struck_again_or_never_ended() {
        let track: &[(u32, &[u8])] = &[
            (0, &[0x90, 60, 90]),
            (1, &[0x80, 60, 0]),
            (119, &[0x90, 64, 90]),
            (240, &[0x90, 64, 90]),
            (120, &[0x80, 64, 0]),
            (0, &[0x80, 99, 0]),
            (0, &[0x90, 67, 1]),
            (120, &[0xc0, 1]),
        ];
        let piece = read_bytes(&file(0, 480, &[track]), 4).unwrap();
        assert_eq!(steps(&piece.roll), [vec![60], vec![64], vec![64], vec![64], vec![67]]);
    }

    #[test]
    fn what_is_written_is_read_again_and_held_notes_are_struck_once() {
        let roll: PianoRoll =
            [&[60, 64][..], &[60], &[60, 127], &[], &[0], &[0]].map(|step| step.iter().copied().collect()).to_vec();
        for steps_per_beat in [1, 3, 4, 7, 480] {
            let bytes = piano_roll_to_midi(&roll, steps_per_beat);
            assert_eq!(read_bytes(&bytes, steps_per_beat).unwrap().roll, roll, "{steps_per_beat} steps per beat");
            let smf = Smf::parse(&bytes).unwrap();
            let struck = |event: &&TrackEvent| {
                matches!(event.kind, TrackEventKind::Midi { message: MidiMessage::NoteOn { .. }, .. })
            };
            assert_eq!(smf.tracks[0].iter().filter(struck).count(), 4);
            let ticks: u32 = smf.tracks[0].iter().map(|event| event.delta.as_int()).sum();
            assert_eq!(ticks, 6 * (480 / steps_per_beat), "as long as the roll");
        }
        assert!(read_bytes(&piano_roll_to_midi(&[], 4), 4).is_err());
    }

    #[test]
    fn files_that_are_no_piece() {
        let note: &[(u32, &[u8])] = &[(0, &[0x90, 60, 90]), (480, &[0x80, 60, 0])];
        let drum: &[(u32, &[u8])] = &[(0, &[0x99, 60, 90]), (480, &[0x89, 60, 0])];
        let long: Vec<(u32, &[u8])> =
            [(0, &[0x90, 60, 90][..])].into_iter().chain([(0x0fff_ffff, &[0x90, 62, 0][..]); 40]).collect();
        let mut cut = file(0, 480, &[note]);
        cut.truncate(cut.len() - 6);
        for (bytes, says) in [
            (file(0, 480, &[&[]]), &["a.mid: expected at least one note", "leave it out"][..]),
            (file(0, 480, &[drum]), &["a.mid: expected at least one note", "drums alone"]),
            (file(0, 0xe728, &[note]), &["expected time in beats", "SMPTE"]),
            (file(0, 0, &[note]), &["expected ticks in a beat"]),
            (file(2, 480, &[note, note]), &["format 2"]),
            (file(0, 1, &[&long]), &["at most 1048576 steps"]),
            (cut, &["a.mid: expected a Standard MIDI File"]),
            (b"MThd".to_vec(), &["a.mid: expected a Standard MIDI File"]),
            (Vec::new(), &["a.mid: expected a Standard MIDI File"]),
            (b"RIFF and so on".to_vec(), &["a.mid: expected a Standard MIDI File"]),
        ] {
            let error = read_bytes(&bytes, 4).unwrap_err().to_string();
            assert!(says.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let note: &[(u32, &[u8])] = &[(0, &[0x90, 60, 90]), (480, &[0x80, 60, 0]), (9, &[0xf0, 2, 1, 0xf7])];
        let whole = file(1, 96, &[note, note]);
        for place in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0x90, 0xf0, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                let _ = read_bytes(&bytes, 4);
            }
            let _ = read_bytes(&whole[..place], 4);
        }
    }
}
