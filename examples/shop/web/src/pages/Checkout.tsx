import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Checkout() {
  const [steps, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/checkout").then((body) => {
      console.log("checkout loaded", body);
      if (live) {
        set(body.steps as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("checkout left");
    };
  }, []);

  return (
    <section aria-label="Checkout">
      <h2>Checkout</h2>
      <ul>
        {steps.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
