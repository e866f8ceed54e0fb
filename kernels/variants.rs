// The shapes of the voxel kernels: classes × voxels that a thread has room for, whether the classes of a voxel lie side by side,
// whether a team of threads shares a voxel. Each is compiled for `reduce`, `gradient` and `one_pass`, some for `one_block`; the first
// that fits is taken.
skeletons! {
    "planar_1x4": 1 x 4, false, false, one_block;
    "planar_2x4": 2 x 4, false, false, one_block;
    "planar_4x4": 4 x 4, false, false, one_block;
    "planar_8x4": 8 x 4, false, false;
    "planar_team_8x4": 8 x 4, false, true;
    "planar_team_10x4": 10 x 4, false, true;
    "planar_4x1": 4 x 1, false, false, one_block;
    "planar_16x1": 16 x 1, false, false;
    "planar_team_16x1": 16 x 1, false, true;
    "interleaved_2x1": 2 x 1, true, false, one_block;
    "interleaved_4x1": 4 x 1, true, false, one_block;
    "interleaved_8x1": 8 x 1, true, false, one_block;
    "interleaved_16x1": 16 x 1, true, false;
    "interleaved_team_16x1": 16 x 1, true, true;
}
