from ppl_vae.compare.at_point import at_point
