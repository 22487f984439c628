;; The Internet checksum's sum (RFC 1071), 64 bytes a step. Built into checksum.wasm by the package's build.
(module
  (import "env" "memory" (memory 1 65536))

  ;; Sums `length` bytes at `at` as big-endian 16-bit words, an odd last byte padded with zero, onto `initial`
  ;; (16 bits); returns the sum folded to 16 bits, not complemented. `length` is at most 64 KiB.
  (func (export "sum") (param $at i32) (param $length i32) (param $initial i32) (result i32)
    (local $first v128) (local $second v128) (local $sign v128) (local $ones v128) (local $end i32) (local $sum i64)
    ;; Words are summed as the little-endian machine reads them: the sum of swapped words is the swapped sum
    ;; (RFC 1071 section 2B). One instruction multiplies and adds signed words, and none unsigned ones: with its highest
    ;; bit turned over, a word counts as itself less 32768, which is put back for all words at once. A lane takes at
    ;; most 4 * 32768 a step, 1024 steps in 64 KiB: it cannot overflow.
    (local.set $sign (v128.const i16x8 0x8000 0x8000 0x8000 0x8000 0x8000 0x8000 0x8000 0x8000))
    (local.set $ones (v128.const i16x8 1 1 1 1 1 1 1 1))
    (local.set $sum (i64.shl (i64.extend_i32_u (i32.and (local.get $length) (i32.const -16))) (i64.const 14)))
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const -64))))
    (block $done
      (loop $step
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $first (i32x4.add (local.get $first)
          (i32x4.dot_i16x8_s (v128.xor (v128.load (local.get $at)) (local.get $sign)) (local.get $ones))))
        (local.set $second (i32x4.add (local.get $second)
          (i32x4.dot_i16x8_s (v128.xor (v128.load offset=16 (local.get $at)) (local.get $sign)) (local.get $ones))))
        (local.set $first (i32x4.add (local.get $first)
          (i32x4.dot_i16x8_s (v128.xor (v128.load offset=32 (local.get $at)) (local.get $sign)) (local.get $ones))))
        (local.set $second (i32x4.add (local.get $second)
          (i32x4.dot_i16x8_s (v128.xor (v128.load offset=48 (local.get $at)) (local.get $sign)) (local.get $ones))))
        (local.set $at (i32.add (local.get $at) (i32.const 64)))
        (br $step)))
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const 48))))
    (block $done
      (loop $quarter
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $first (i32x4.add (local.get $first)
          (i32x4.dot_i16x8_s (v128.xor (v128.load (local.get $at)) (local.get $sign)) (local.get $ones))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $quarter)))
    (local.set $first (i32x4.add (local.get $first) (local.get $second)))
    (local.set $sum (i64.add (local.get $sum)
      (i64.add
        (i64.add (i64.extend_i32_s (i32x4.extract_lane 0 (local.get $first)))
                 (i64.extend_i32_s (i32x4.extract_lane 1 (local.get $first))))
        (i64.add (i64.extend_i32_s (i32x4.extract_lane 2 (local.get $first)))
                 (i64.extend_i32_s (i32x4.extract_lane 3 (local.get $first)))))))
    ;; Up to 15 bytes are left. Larger words add up to the same sum (RFC 1071 section 2C).
    (if (i32.and (local.get $length) (i32.const 8))
      (then
        (local.set $sum (i64.add (local.get $sum)
          (i64.add (i64.load32_u (local.get $at)) (i64.load32_u offset=4 (local.get $at)))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))))
    (if (i32.and (local.get $length) (i32.const 4))
      (then
        (local.set $sum (i64.add (local.get $sum) (i64.load32_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))))
    (if (i32.and (local.get $length) (i32.const 2))
      (then
        (local.set $sum (i64.add (local.get $sum) (i64.load16_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))))
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
