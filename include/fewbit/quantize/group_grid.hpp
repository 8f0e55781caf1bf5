// GroupGrid: the numbers of one group's grid, as its stored types hold them; grid.hpp finds them.
#pragma once

namespace fewbit::inline v0 {

struct GroupGrid {
    float scale =
        0;  ///< exactly as its stored type holds it; 0: every weight is the zero code (real: the offset)
    /// The code of 0.0: the middle of a symmetric grid or codebook, the zero point, 0 with a real offset.
    int zero = 0;
    float offset = 0;        ///< real offsets, exactly as stored
    bool subnormal = false;  ///< the scale lies below the normal range of its type

    friend bool operator==(const GroupGrid&, const GroupGrid&) = default;
};

}  // namespace fewbit::inline v0
