//! Points that no other point beats in both cost and value.

/// Positions of the non-dominated points among `(cost, value)`, ascending in cost and strictly ascending in value. Of equal
/// points the first is taken; points with a NaN are left out.
pub fn front(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).filter(|&k| !points[k].0.is_nan() && !points[k].1.is_nan()).collect();
    order.sort_by(|&a, &b| points[a].0.total_cmp(&points[b].0).then(points[b].1.total_cmp(&points[a].1)).then(a.cmp(&b)));
    let mut best = f64::NEG_INFINITY;
    order.retain(|&k| {
        let better = points[k].1 > best;
        best = best.max(points[k].1);
        better
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_point_is_beaten_or_equalled_by_one_of_the_front_and_none_of_the_front_by_another(
            points in prop::collection::vec((0u8..20, 0u8..20), 0..40)
        ) {
            let points: Vec<(f64, f64)> = points.into_iter().map(|(c, v)| (f64::from(c), f64::from(v))).collect();
            let front = front(&points);
            for (c, v) in &points {
                prop_assert!(front.iter().any(|&k| points[k].0 <= *c && points[k].1 >= *v));
            }
            for &a in &front {
                for &b in &front {
                    prop_assert!(a == b || points[a].0 > points[b].0 || points[a].1 < points[b].1);
                }
            }
            prop_assert!(front.windows(2).all(|w| points[w[0]].0 < points[w[1]].0 && points[w[0]].1 < points[w[1]].1));
        }
    }

    #[test]
    fn nan_is_nobody() {
        assert_eq!(front(&[(f64::NAN, 9.0), (1.0, f64::NAN), (2.0, 1.0)]), [2]);
    }
}
