// What is kept of the two nearest objects of a voxel.
#import distance

// The least squares of distances to two objects that differ, and their numbers.
struct Two {
    first: f32,
    second: f32,
    of_first: u32,
    of_second: u32,
}
const NO_OBJECT = 0xffffffffu;

fn nothing() -> Two {
    return Two(piece.farthest, piece.farthest, NO_OBJECT, NO_OBJECT);
}
fn packed(two: Two) -> vec4<u32> {
    return vec4<u32>(bitcast<u32>(two.first), bitcast<u32>(two.second), two.of_first, two.of_second);
}
fn unpacked(words: vec4<u32>) -> Two {
    return Two(bitcast<f32>(words.x), bitcast<f32>(words.y), words.z, words.w);
}
// Takes in an object that is this far away.
fn nearer(two: Two, square: f32, object: u32) -> Two {
    if square < two.first {
        // What was the nearest is the second then.
        if object != two.of_first {
            return Two(square, two.first, object, two.of_first);
        }
        return Two(square, two.second, object, two.of_second);
    }
    if square < two.second && object != two.of_first {
        return Two(two.first, square, two.of_first, object);
    }
    return two;
}
