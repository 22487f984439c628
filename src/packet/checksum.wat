;; The Internet checksum's sum (RFC 1071), 32 bytes a step. Built into checksum.wasm by the package's build.
(module
  (import "env" "memory" (memory 1 65536))

  ;; Sums `length` bytes at `at` as big-endian 16-bit words, an odd last byte padded with zero, onto `initial`
  ;; (16 bits); returns the sum folded to 16 bits, not complemented.
  (func (export "sum") (param $at i32) (param $length i32) (param $initial i32) (result i32)
    (local $lanes v128) (local $end i32) (local $sum i64)
    ;; Words are summed as the little-endian machine reads them: the sum of swapped words is the swapped sum
    ;; (RFC 1071 section 2B). A lane takes at most 2 * 65535 a step, 2048 steps in 64 KiB: it cannot overflow.
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const -32))))
    (block $done
      (loop $step
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $lanes (i32x4.add (local.get $lanes)
          (i32x4.extadd_pairwise_i16x8_u (v128.load (local.get $at)))))
        (local.set $lanes (i32x4.add (local.get $lanes)
          (i32x4.extadd_pairwise_i16x8_u (v128.load offset=16 (local.get $at)))))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br $step)))
    (local.set $sum
      (i64.add
        (i64.add (i64.extend_i32_u (i32x4.extract_lane 0 (local.get $lanes)))
                 (i64.extend_i32_u (i32x4.extract_lane 1 (local.get $lanes))))
        (i64.add (i64.extend_i32_u (i32x4.extract_lane 2 (local.get $lanes)))
                 (i64.extend_i32_u (i32x4.extract_lane 3 (local.get $lanes))))))
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const 30))))
    (block $done
      (loop $word
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $sum (i64.add (local.get $sum) (i64.load16_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (br $word)))
    (if (i32.and (local.get $length) (i32.const 1))
      (then (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))))
    ;; The initial sum is big-endian: swap it in, fold, swap the result out.
    (local.set $sum (i64.add (local.get $sum)
      (i64.or (i64.shl (i64.and (i64.extend_i32_u (local.get $initial)) (i64.const 0xff)) (i64.const 8))
              (i64.and (i64.shr_u (i64.extend_i32_u (local.get $initial)) (i64.const 8)) (i64.const 0xff)))))
    (local.set $sum (i64.add (i64.and (local.get $sum) (i64.const 0xffff)) (i64.shr_u (local.get $sum) (i64.const 16))))
    (local.set $sum (i64.add (i64.and (local.get $sum) (i64.const 0xffff)) (i64.shr_u (local.get $sum) (i64.const 16))))
    (local.set $sum (i64.add (i64.and (local.get $sum) (i64.const 0xffff)) (i64.shr_u (local.get $sum) (i64.const 16))))
    (local.set $at (i32.wrap_i64 (local.get $sum)))
    (i32.or (i32.shl (i32.and (local.get $at) (i32.const 0xff)) (i32.const 8))
            (i32.shr_u (local.get $at) (i32.const 8)))))
