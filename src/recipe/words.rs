//! The words of a recipe, named once: the encoder writes by these names, and `cargo xtask gen` gives them to the kernel.

/// Declares the words of one block of a recipe.
macro_rules! words {
    ($(#[$doc:meta])* $block:ident { $($(#[doc = $text:literal])+ $word:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum $block { $($(#[doc = $text])+ $word,)* }

        impl $block {
            /// Every word with its description, in order.
            pub(crate) const ALL: &[($block, &str)] = &[$(($block::$word, concat!($($text),+)),)*];
        }
    };
}

words! {
    /// The words that a recipe begins with. Offsets are in words: of the recipe where they are called `…Block`, of the
    /// workspace otherwise. A double takes two words, the low one first.
    HeadWord {
        /// N
        Samples,
        /// C
        Classes,
        /// Doubles between the moments of one sample and those of the next.
        Row,
        /// Moments of a group.
        Moments,
        /// The number of moment G, or NONE.
        MomentG,
        /// Moments that have a slope: the coefficients of a group.
        SlopeCount,
        /// Numbers in the loss: 1, or N with reduction `none`.
        Losses,
        /// 1 where every sample has a mean of its own (reduction `none`).
        EachPool,
        /// 1 with reduction `sum`.
        IsSum,
        /// 1 where a part pools the samples.
        AnyBatch,
        /// V as a double.
        Voxels,
        /// Its high word.
        VoxelsHigh,
        /// N·V as a double.
        AllVoxels,
        /// Its high word.
        AllVoxelsHigh,
        /// The factor of the head, a double.
        Weight,
        /// Its high word.
        WeightHigh,
        /// 1 where the losses are written, 0 where they add to those that stand there.
        First,
        /// Terms of the objective, T.
        Terms,
        /// The factors of the terms, doubles.
        TermWeightsBlock,
        /// Numbers of the result, of all heads.
        ResultNumbers,
        /// The first number of the result that belongs to this head.
        ResultHead,
        /// Parts of the head.
        Parts,
        /// The parts, one after the other.
        PartsBlock,
        /// Moments, doubles `[N][row]`.
        MomentsAt,
        /// Coefficients, f32 `[N][C][slope count]`.
        CoefficientsAt,
        /// Moments summed over the samples, doubles `[C][moments]`.
        PooledAt,
        /// Coefficients before the last rounding, doubles `[N][C][slope count]`.
        AccumulatorsAt,
        /// Values of the terms, doubles `[T][L]`.
        ValuesAt,
        /// What formulas know of their pool, doubles: ΣG `[pools]`, then the least G `[pools]`.
        ContextAt,
        /// Sums over groups, doubles `[field][ranges]`.
        SumsAt,
        /// What became of each range, doubles `[ranges][5]`.
        OutcomesAt,
        /// Groups of the part at hand.
        GroupsAt,
    }
}

words! {
    /// The words of one part.
    PartWord {
        /// The term it belongs to.
        Term,
        /// SCOPE_GROUP, SCOPE_POOL or SCOPE_RATIO.
        Scope,
        /// 1 where the samples are one pool.
        Batch,
        /// The first class that counts: 0 or 1.
        FirstClass,
        /// 1 where an absent class is left out.
        AbsentSkip,
        /// 1 where an absent class has value 0.
        AbsentZero,
        /// Pools: N, or 1.
        Pools,
        /// Terms of a group.
        Terms,
        /// Moments that the slopes differentiate by.
        SlopeMoments,
        /// Their numbers among the coefficients.
        SlopeMomentsBlock,
        /// Class weights, doubles, or NONE.
        ClassWeightsBlock,
        /// The program from inputs to terms.
        InnerBlock,
        /// The program from inputs to slopes; the kernel takes the two in turn.
        SlopesBlock,
        /// The program from summed terms to value and slopes; pool scope only.
        OuterBlock,
        /// The moment of each input slot below SLOT_CLASS, or NONE.
        SlotsBlock,
        /// 1 where a program reads SLOT_G_SUM.
        ReadsGSum,
        /// 1 where a program reads SLOT_G_MIN.
        ReadsGMin,
        /// The factor of the part in its term, a double.
        Weight,
        /// Its high word.
        WeightHigh,
        /// Head weight times term weight times part weight, a double.
        Factor,
        /// Its high word.
        FactorHigh,
        /// What a pool's value counts in pool scope, a double.
        PoolShare,
        /// Its high word.
        PoolShareHigh,
    }
}

words! {
    /// The words that a program begins with. Its literals follow as doubles, then its instructions of two words, as
    /// `Program::encode` lays them out, then its outputs: kind in the low byte, number in the next.
    ProgramWord {
        /// Literals.
        Literals,
        /// Instructions.
        Instructions,
        /// Outputs.
        Outputs,
    }
}

/// Where a number of the recipe says that there is none.
pub(crate) const NONE: u32 = u32::MAX;
