import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Cart() {
  const [lines, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/cart").then((body) => {
      console.log("cart loaded", body);
      if (live) {
        set(body.lines as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("cart left");
    };
  }, []);

  return (
    <section aria-label="Cart">
      <h2>Cart</h2>
      <ul>
        {lines.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
