/* SPDX-License-Identifier: MIT */

import java.util.HashMap;

/** A hash table of byte arrays that is filled and then read ROUNDS times in another order: Table N ROUNDS. */
public class Table {
    private static final int BYTES = 1000;
    private static final int STRIDE = 50;

    public static void main(String[] args) {
        int n = Integer.parseInt(args[0]);
        int rounds = Integer.parseInt(args[1]);
        HashMap<Integer, byte[]> table = new HashMap<>();
        long sum = 0;

        for (int i = 0; i < n; i++) {
            byte[] b = new byte[BYTES];
            for (int k = 0; k < BYTES; k += STRIDE) {
                b[k] = (byte) (i * 31 + k);
            }
            table.put(i, b);
        }
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < n; i++) {
                byte[] b = table.get((int) (i * 7919L % n));
                for (int k = 0; k < BYTES; k += STRIDE) {
                    sum = sum * 31 + b[k];
                }
            }
        }
        System.out.println(table.size() + " " + sum);
    }
}
